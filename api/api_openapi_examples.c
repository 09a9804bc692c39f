/* api_openapi_examples: an example of each object, for openapi.json. A test holds each against its
 * schema. Written with ' for ". */
#include "api/openapi.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* clang-format off */
#define FILE_ID "file-4k7q2m9x1c8v5b3n6z0a7s2d"
#define JOB_ID "ftjob-8h3j5k7l9p1o2i4u6y0tab12"
#define UPLOAD_ID "upload_2w4e6r8t0y1u3i5o7p9a2s4d"
#define PART_ID "part_1q3w5e7r9t0y2u4i6o8p1a3s"
#define ENDPOINT_ID "whe_5t7y9u1i3o5p7a9s1d3f5g7h"
#define PERMISSION_ID "cp_6y8u0i2o4p6a8s0d2f4g6h8j"
#define MODEL "ft:tiny:ffwd:orders:6y0tab12"
#define CHECKPOINT MODEL ":ckpt-step-40"
#define NUMBERS "{'n_epochs':3,'batch_size':8,'learning_rate_multiplier':1.0}"
#define REPORT "{'ok':true,'kind':'chat','rows':600,'tokens':40232,'lengths':{'min':49,'median':67," \
    "'p95':82,'max':92},'errors':[],'warnings':[],'tokenized_rows':600,'template':'chatml'}"
#define ESTIMATE "{'exact':true,'hyperparameters':" NUMBERS ",'learning_rate':0.0031,'total_steps':225," \
    "'tokens':120696,'flops':{'training':9.8e11,'fast_forward':9.8e11,'validation':5.5e10}," \
    "'memory_bytes':{'process':19681280,'weights':8693504,'adapter':5644288,'activations':12392448," \
    "'scratch':10046208,'total':56457728}," \
    "'seconds':25.5,'seconds_basis':'measured on two blocks with random weights'}"
#define EVENT "{'object':'fine_tuning.job.event','id':'ftevent-12','created_at':1767225660," \
    "'level':'info','message':'Step 20/225: training loss=0.81','type':'metrics'," \
    "'data':{'step':20,'total_steps':225,'train_loss':0.81}}"
#define FILE_OBJECT "{'id':'" FILE_ID "','object':'file','bytes':120064,'created_at':1767225600," \
    "'filename':'train.jsonl','purpose':'fine-tune','status':'processed'}"
#define JOB "{'object':'fine_tuning.job','id':'" JOB_ID "','model':'tiny','created_at':1767225600," \
    "'finished_at':null,'fine_tuned_model':null,'organization_id':'org-ffwd','result_files':[]," \
    "'status':'running','validation_file':null,'training_file':'" FILE_ID "','hyperparameters':" NUMBERS "," \
    "'method':{'type':'supervised','supervised':{'hyperparameters':" NUMBERS "}},'trained_tokens':null," \
    "'integrations':[],'seed':7,'estimated_finish':1767225700,'error':null,'metadata':{'team':'a'}," \
    "'user_provided_suffix':'orders','ffwd':{'progress':{'step':20,'total_steps':225,'percent':8.8}," \
    "'queue_position':null,'tokens_per_second':3520.5,'flops':{'training':null,'fast_forward':null," \
    "'total':8.7e10},'fast_forward':null,'device':'cpu','attempt':1,'priority':0," \
    "'started_at':1767225602,'cancel_requested':false,'pause_requested':false}}"
#define CHECKPOINT_OBJECT "{'object':'fine_tuning.job.checkpoint','id':'ftckpt-8h3j5k7l9p1o2i4u6y0tab12-40'," \
    "'created_at':1767225640,'fine_tuned_model_checkpoint':'" CHECKPOINT "','fine_tuning_job_id':'" JOB_ID "'," \
    "'step_number':40,'metrics':{'step':40,'train_loss':0.62,'full_valid_loss':0.7}}"
#define MODEL_OBJECT "{'id':'" MODEL "','object':'model','created':1767225720,'owned_by':'org-ffwd'}"
#define PERMISSION "{'object':'checkpoint.permission','id':'" PERMISSION_ID "','created_at':1767225800," \
    "'project_id':'team-b'}"
#define ENDPOINT "'object':'webhook_endpoint','id':'" ENDPOINT_ID "','created_at':1767225600," \
    "'updated_at':1767225600,'name':'ci','url':'https://example.org/ffwd','event_types':['fine_tuning.job.failed']," \
    "'signing_secret_hint':'whsec_...LaSw','status':'enabled','disabled_reason':null"
#define UPLOAD "'id':'" UPLOAD_ID "','object':'upload','bytes':120064,'created_at':1767225600," \
    "'expires_at':1767229200,'filename':'train.jsonl','purpose':'fine-tune'"
#define LIST(items, more) "{'object':'list','data':[" items "],'has_more':false" more "}"
#define IDS(id) ",'first_id':'" id "','last_id':'" id "'"
#define DELETED(id, object) "{'id':'" id "','object':'" object "','deleted':true}"

static const struct {
    const char *schema, *text;
} examples[] = {
    {"File", FILE_OBJECT},
    {"FileList", LIST(FILE_OBJECT, IDS(FILE_ID))},
    {"FileDeleted", DELETED(FILE_ID, "file")},
    {"FileUpload", "{'purpose':'fine-tune','file':'rows of JSON lines'}"},
    {"Upload", "{" UPLOAD ",'status':'pending'}"},
    {"UploadPart", "{'id':'" PART_ID "','object':'upload.part','created_at':1767225610,'upload_id':'" UPLOAD_ID "'}"},
    {"UploadCreate", "{'filename':'train.jsonl','purpose':'fine-tune','bytes':120064,"
        "'mime_type':'application/jsonl'}"},
    {"UploadComplete", "{'part_ids':['" PART_ID "'],'md5':'9e107d9d372bb6826bd81d3542a419d6'}"},
    {"PartUpload", "{'data':'bytes of the part'}"},
    {"JobCreate", "{'model':'tiny','training_file':'" FILE_ID "','suffix':'orders','seed':7,"
        "'metadata':{'team':'a'},'method':{'type':'supervised','supervised':{'hyperparameters':"
        "{'n_epochs':3,'batch_size':'auto'}}},'lora':{'rank':16},'fast_forward':{'search':'auto'},"
        "'training':{'lr_schedule':'linear'}}"},
    {"JobUpdate", "{'priority':10}"},
    {"Job", JOB},
    {"JobOrDryRun", JOB},
    {"JobList", LIST(JOB, "")},
    {"DryRun", "{'object':'fine_tuning.job.estimate','model':'tiny','training_file':'" FILE_ID "',"
        "'validation_file':null,'valid':true,'message':null,'training':" REPORT ",'validation':null,"
        "'estimate':" ESTIMATE "}"},
    {"EventList", LIST(EVENT, "")},
    {"StreamEvent", "{'id':'ftevent-12','data':'[DONE]'}"},
    {"CheckpointList", LIST(CHECKPOINT_OBJECT, IDS("ftckpt-8h3j5k7l9p1o2i4u6y0tab12-40"))},
    {"Model", MODEL_OBJECT},
    {"ModelList", "{'object':'list','data':[" MODEL_OBJECT "]}"},
    {"ModelDeleted", DELETED(MODEL, "model")},
    {"PermissionCreate", "{'project_ids':['team-b']}"},
    {"PermissionList", LIST(PERMISSION, IDS(PERMISSION_ID))},
    {"PermissionDeleted", DELETED(PERMISSION_ID, "checkpoint.permission")},
    {"WebhookCreate", "{'url':'https://example.org/ffwd','name':'ci','event_types':['fine_tuning.job.failed']}"},
    {"WebhookUpdate", "{'name':'ci'}"},
    {"WebhookRotate", "{'keep_old_secret_active_for_24_hours':true}"},
    {"Webhook", "{" ENDPOINT "}"},
    {"WebhookSecret", "{" ENDPOINT ",'signing_secret':'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'}"},
    {"WebhookList", LIST("{" ENDPOINT "}", IDS(ENDPOINT_ID))},
    {"WebhookDeleted", DELETED(ENDPOINT_ID, "webhook_endpoint.deleted")},
    {"WebhookTestRequest", "{'event_type':'fine_tuning.job.failed'}"},
    {"WebhookTest", "{'id':'wh_3r5t7y9u1i3o5p7a9s1d3f5g','object':'webhook_endpoint.test',"
        "'webhook_endpoint_id':'" ENDPOINT_ID "','event_type':'fine_tuning.job.failed','status_code':200,'success':true}"},
    {"WebhookEventTypes", "{'object':'list','data':['fine_tuning.job.succeeded','fine_tuning.job.failed',"
        "'fine_tuning.job.cancelled']}"},
    {"Status", "{'status':'ready'}"},
};

static const struct {
    const char *name, *value;
} parameters[] = {
    {"file_id", FILE_ID},
    {"upload_id", UPLOAD_ID},
    {"fine_tuning_job_id", JOB_ID},
    {"file", "adapter_model.safetensors"},
    {"model", MODEL},
    {"fine_tuned_model_checkpoint", CHECKPOINT},
    {"permission_id", PERMISSION_ID},
    {"webhook_endpoint_id", ENDPOINT_ID},
};
/* clang-format on */

json_t *openapi_examples(void) {
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        json_object_set_new(all, examples[i].schema,
                            json_pack("{s:o}", "value", json_table_parse(examples[i].text)));
    return all;
}

bool openapi_has_example(const char *schema) {
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        if (strcmp(examples[i].schema, schema) == 0)
            return true;
    return false;
}

json_t *openapi_parameter_example(const char *name) {
    for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++)
        if (strcmp(parameters[i].name, name) == 0)
            return json_string(parameters[i].value);
    return NULL;
}
