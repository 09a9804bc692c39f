/* api_schemas: the objects of the API as JSON schemas, for openapi.json.
 *
 * Written with ' for ", which no schema here needs otherwise. Ranges repeat those of the readers
 * (base/job_request.c, api_files.c); a test sends both ends of each. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* clang-format off */
#define TEXT          "{'type':'string'}"
#define TEXT_OR_NULL  "{'type':['string','null']}"
#define NAME          "{'type':'string','minLength':1,'maxLength':255}"
#define FLAG          "{'type':'boolean'}"
#define COUNT         "{'type':'integer','minimum':0}"
#define INTEGER       "{'type':'integer'}"
#define INTEGER_OR_NULL "{'type':['integer','null']}"
#define NUMBER_OR_NULL  "{'type':['number','null']}"
#define TIME          "{'type':'integer','description':'Unix seconds'}"
#define TIME_OR_NULL  "{'type':['integer','null'],'description':'Unix seconds'}"
#define ONLY(value)   "{'const':" value "}"
#define ONE_OF(values) "{'enum':[" values "]}"
#define INT(lo, hi)   "{'type':'integer','minimum':" lo ",'maximum':" hi "}"
#define INT_OR_NULL(lo, hi) "{'type':['integer','null'],'minimum':" lo ",'maximum':" hi "}"
#define REAL(lo, hi)  "{'type':'number','minimum':" lo ",'maximum':" hi "}"
#define ABOVE(lo, hi) "{'type':'number','exclusiveMinimum':" lo ",'maximum':" hi "}"
#define REF(name)     "{'$ref':'#/components/schemas/" name "'}"
#define OR_NULL(schema) "{'oneOf':[{'type':'null'}," schema "]}"
#define AUTO_OR(schema) "{'oneOf':[{'const':'auto'}," schema ",{'type':'null'}]}"
#define ARRAY(items)  "{'type':'array','items':" items "}"
#define KEY(name)     ",'" name "':"
#define FIRST(name)   "'" name "':"
#define OBJECT(required, properties) \
    "{'type':'object','required':[" required "],'properties':{" properties "}}"
/* A part of a request: other keys are refused. */
#define CLOSED(required, properties) \
    "{'type':'object','additionalProperties':false,'required':[" required "],'properties':{" properties "}}"
#define WEBHOOK_FIELDS \
    FIRST("id") TEXT KEY("object") ONLY("'webhook_endpoint'") KEY("created_at") TIME KEY("url") TEXT \
    KEY("status") ONE_OF("'enabled','disabled'") KEY("disabled_reason") TEXT_OR_NULL
#define LIST_OF(name, more_required, more) \
    OBJECT("'object','data','has_more'" more_required, \
           FIRST("object") ONLY("'list'") KEY("data") ARRAY(REF(name)) KEY("has_more") FLAG more)

static const char *const schemas[][2] = {
    {"Error", OBJECT("'error'",
        FIRST("error") OBJECT("'message','type','param','code'",
            FIRST("message") TEXT KEY("type") TEXT KEY("param") TEXT_OR_NULL KEY("code") TEXT_OR_NULL))},

    {"File", OBJECT("'id','object','bytes','created_at','filename','purpose','status'",
        FIRST("id") TEXT
        KEY("object") ONLY("'file'")
        KEY("bytes") COUNT
        KEY("created_at") TIME
        KEY("expires_at") TIME
        KEY("filename") TEXT
        KEY("purpose") ONE_OF("'fine-tune','fine-tune-results','assistants','batch','vision','user_data'")
        KEY("status") ONLY("'processed'"))},
    {"FileList", LIST_OF("File", ",'first_id','last_id'", KEY("first_id") TEXT KEY("last_id") TEXT)},
    {"FileDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'file'") KEY("deleted") ONLY("true"))},
    {"FileUpload",
        "{'type':'object','additionalProperties':false,'required':['file','purpose'],"
        "'dependentRequired':{'expires_after[anchor]':['expires_after[seconds]'],"
        "'expires_after[seconds]':['expires_after[anchor]']},'properties':{"
        FIRST("file") "{'type':'string','format':'binary'}"
        KEY("purpose") ONE_OF("'fine-tune','assistants','batch','vision','user_data'")
        KEY("expires_after[anchor]") ONLY("'created_at'")
        KEY("expires_after[seconds]") INT("3600", "2592000") "}}"},

    {"Upload", OBJECT("'id','object','bytes','created_at','expires_at','filename','purpose','status'",
        FIRST("id") TEXT
        KEY("object") ONLY("'upload'")
        KEY("bytes") COUNT
        KEY("created_at") TIME
        KEY("expires_at") TIME
        KEY("filename") TEXT
        KEY("purpose") ONE_OF("'fine-tune','assistants','batch','vision','user_data'")
        KEY("status") ONE_OF("'pending','completed','cancelled','expired'")
        KEY("file") REF("File"))},
    {"UploadPart", OBJECT("'id','object','created_at','upload_id'",
        FIRST("id") TEXT KEY("object") ONLY("'upload.part'") KEY("created_at") TIME KEY("upload_id") TEXT)},
    {"UploadCreate", CLOSED("'filename','purpose','bytes','mime_type'",
        FIRST("filename") "{'type':'string','minLength':1}"
        KEY("purpose") ONE_OF("'fine-tune','assistants','batch','vision','user_data'")
        KEY("bytes") "{'type':'integer','minimum':1}"
        KEY("mime_type") NAME
        KEY("expires_after") OR_NULL(CLOSED("'anchor','seconds'",
            FIRST("anchor") ONLY("'created_at'") KEY("seconds") INT("3600", "2592000"))))},
    {"UploadComplete", CLOSED("'part_ids'",
        FIRST("part_ids") "{'type':'array','minItems':1,'maxItems':10000,'uniqueItems':true,'items':{'type':'string'}}"
        KEY("md5") "{'type':['string','null'],'pattern':'^([0-9a-fA-F]{32})?$'}")},
    {"PartUpload", CLOSED("'data'", FIRST("data") "{'type':'string','format':'binary'}")},

    {"Hyperparameters", CLOSED("",
        FIRST("n_epochs") AUTO_OR(INT("1", "100"))
        KEY("batch_size") AUTO_OR(INT("1", "1024"))
        KEY("learning_rate_multiplier") AUTO_OR(ABOVE("0", "1000000")))},
    {"Method", CLOSED("'type'",
        FIRST("type") ONLY("'supervised'")
        KEY("supervised") CLOSED("", FIRST("hyperparameters") REF("Hyperparameters")))},
    {"Lora", CLOSED("",
        FIRST("rank") INT("1", "512")
        KEY("alpha") ABOVE("0", "65536")
        KEY("dropout") "{'type':'number','minimum':0,'exclusiveMaximum':1}"
        KEY("target_modules") "{'oneOf':[{'const':'all-linear'},{'type':'array','minItems':1,"
            "'maxItems':64,'items':{'type':'string','minLength':1,'maxLength':64}}]}"
        KEY("use_rslora") FLAG
        KEY("use_dora") FLAG)},
    {"FastForward", CLOSED("",
        FIRST("enabled") FLAG
        KEY("interval") INT("1", "10000")
        KEY("validation_examples") INT("1", "10000")
        KEY("search") ONE_OF("'auto','linear','paper'")
        KEY("max_steps") INT("1", "100000"))},
    {"Training", CLOSED("",
        FIRST("learning_rate") AUTO_OR(ABOVE("0", "1"))
        KEY("lr_schedule") ONE_OF("'constant','linear','cosine'")
        KEY("warmup_ratio") REAL("0", "1")
        KEY("weight_decay") REAL("0", "1")
        KEY("max_grad_norm") ABOVE("0", "1000000000")
        KEY("max_seq_len") INT("2", "1048576")
        KEY("packing") FLAG
        KEY("shuffle") FLAG
        KEY("long_examples") ONE_OF("'truncate','drop','fail'")
        KEY("train_on") ONE_OF("'assistant','response','all'")
        KEY("max_steps") INT_OR_NULL("1", "10000000")
        KEY("target_loss") "{'type':['number','null'],'exclusiveMinimum':0,'maximum':1000000}"
        KEY("eval_interval") INT("0", "10000000")
        KEY("checkpoint_interval") INT("0", "10000000")
        KEY("early_stopping") OR_NULL(CLOSED("'patience'",
            FIRST("patience") INT("1", "10000") KEY("min_delta") REAL("0", "1000000"))))},
    {"JobCreate", CLOSED("'model','training_file'",
        FIRST("model") NAME
        KEY("training_file") NAME
        KEY("validation_file") "{'type':['string','null'],'minLength':1,'maxLength':255}"
        KEY("suffix") "{'type':['string','null'],'minLength':1,'maxLength':64,"
            "'pattern':'^[^/:\\\\\\\\\\\\u0000-\\\\u001f\\\\u007f]*$'}"
        KEY("seed") INT_OR_NULL("0", "2147483647")
        KEY("metadata") "{'type':['object','null'],'maxProperties':16,'propertyNames':{'maxLength':64},"
            "'additionalProperties':{'type':'string','maxLength':512}}"
        KEY("integrations") "{'type':['array','null'],'maxItems':0}"
        KEY("method") OR_NULL(REF("Method"))
        KEY("hyperparameters") OR_NULL(REF("Hyperparameters"))
        KEY("lora") REF("Lora")
        KEY("fast_forward") REF("FastForward")
        KEY("training") REF("Training")
        KEY("priority") INT("-100", "100")
        KEY("dry_run") FLAG)},

    {"JobUpdate", CLOSED("'priority'", FIRST("priority") INT("-100", "100"))},

    {"JobError", OBJECT("'code','message','param'",
        FIRST("code") TEXT KEY("message") TEXT KEY("param") TEXT_OR_NULL)},
    {"JobProgress", OBJECT("'step','total_steps','percent'",
        FIRST("step") NUMBER_OR_NULL KEY("total_steps") NUMBER_OR_NULL KEY("percent") REAL("0", "100"))},
    {"JobFlops", OBJECT("'training','fast_forward','total'",
        FIRST("training") NUMBER_OR_NULL KEY("fast_forward") NUMBER_OR_NULL KEY("total") NUMBER_OR_NULL)},
    {"JobOwn", OBJECT("'progress','queue_position','tokens_per_second','flops','fast_forward','device','attempt'",
        FIRST("progress") OR_NULL(REF("JobProgress"))
        KEY("queue_position") INTEGER_OR_NULL
        KEY("tokens_per_second") NUMBER_OR_NULL
        KEY("flops") REF("JobFlops")
        KEY("fast_forward") "{'type':['object','null']}"
        KEY("device") "{'type':['object','string','null']}"
        KEY("attempt") COUNT
        KEY("priority") INTEGER
        KEY("started_at") TIME_OR_NULL
        KEY("cancel_requested") FLAG
        KEY("pause_requested") FLAG
        KEY("data") OR_NULL(REF("JobData")))},
    {"FileReport", "{'type':['object','null'],'description':'what ffwd check --json reports on a file'}"},
    {"JobEstimate", "{'type':['object','null'],'description':'steps, tokens, memory, seconds'}"},
    {"JobData", OBJECT("'training','validation','estimate'",
        FIRST("training") REF("FileReport")
        KEY("validation") REF("FileReport")
        KEY("estimate") REF("JobEstimate"))},
    {"DryRun", OBJECT("'object','model','training_file','validation_file','valid','message','training',"
                      "'validation','estimate'",
        FIRST("object") ONLY("'fine_tuning.job.estimate'")
        KEY("model") TEXT
        KEY("training_file") TEXT
        KEY("validation_file") TEXT_OR_NULL
        KEY("valid") FLAG
        KEY("message") TEXT_OR_NULL
        KEY("training") REF("FileReport")
        KEY("validation") REF("FileReport")
        KEY("estimate") REF("JobEstimate"))},
    {"JobOrDryRun", "{'oneOf':[" REF("Job") "," REF("DryRun") "]}"},
    {"Job", OBJECT("'id','object','created_at','model','organization_id','training_file',"
                   "'validation_file','status','hyperparameters','method','result_files','seed',"
                   "'error','fine_tuned_model','finished_at','trained_tokens','ffwd'",
        FIRST("id") TEXT
        KEY("object") ONLY("'fine_tuning.job'")
        KEY("created_at") TIME
        KEY("model") TEXT
        KEY("organization_id") TEXT
        KEY("training_file") TEXT
        KEY("validation_file") TEXT_OR_NULL
        KEY("status") ONE_OF("'validating_files','queued','running','paused','succeeded','failed','cancelled'")
        KEY("hyperparameters") REF("Hyperparameters")
        KEY("method") REF("Method")
        KEY("result_files") ARRAY(TEXT)
        KEY("seed") INTEGER
        KEY("error") OR_NULL(REF("JobError"))
        KEY("fine_tuned_model") TEXT_OR_NULL
        KEY("finished_at") TIME_OR_NULL
        KEY("trained_tokens") INTEGER_OR_NULL
        KEY("estimated_finish") TIME_OR_NULL
        KEY("integrations") "{'type':'array','maxItems':0}"
        KEY("metadata") "{'type':['object','null'],'additionalProperties':" TEXT "}"
        KEY("user_provided_suffix") TEXT_OR_NULL
        KEY("ffwd") REF("JobOwn"))},
    {"JobList", LIST_OF("Job", "", "")},

    {"Event", OBJECT("'id','object','created_at','level','message','type','data'",
        FIRST("id") TEXT
        KEY("object") ONLY("'fine_tuning.job.event'")
        KEY("created_at") TIME
        KEY("level") ONE_OF("'info','warn','error'")
        KEY("message") TEXT
        KEY("type") ONE_OF("'message','metrics'")
        KEY("data") "{'type':'object'}")},
    {"EventList", LIST_OF("Event", "", "")},
    {"Checkpoint", OBJECT("'id','object','created_at','fine_tuned_model_checkpoint',"
                          "'fine_tuning_job_id','step_number','metrics'",
        FIRST("id") TEXT
        KEY("object") ONLY("'fine_tuning.job.checkpoint'")
        KEY("created_at") TIME
        KEY("fine_tuned_model_checkpoint") TEXT
        KEY("fine_tuning_job_id") TEXT
        KEY("step_number") COUNT
        KEY("metrics") "{'type':'object','additionalProperties':{'type':'number'}}")},
    {"CheckpointList", LIST_OF("Checkpoint", ",'first_id','last_id'",
        KEY("first_id") TEXT_OR_NULL KEY("last_id") TEXT_OR_NULL)},

    {"Model", OBJECT("'id','object','created','owned_by'",
        FIRST("id") TEXT KEY("object") ONLY("'model'") KEY("created") TIME KEY("owned_by") TEXT)},
    {"ModelList", OBJECT("'object','data'",
        FIRST("object") ONLY("'list'") KEY("data") ARRAY(REF("Model")))},
    {"ModelDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'model'") KEY("deleted") ONLY("true"))},
    {"PermissionCreate", CLOSED("'project_ids'",
        FIRST("project_ids") "{'type':'array','minItems':1,'maxItems':100,'items':" NAME "}")},
    {"Permission", OBJECT("'id','object','created_at','project_id'",
        FIRST("id") TEXT
        KEY("object") ONLY("'checkpoint.permission'")
        KEY("created_at") TIME
        KEY("project_id") TEXT)},
    {"PermissionList", LIST_OF("Permission", ",'first_id','last_id'",
        KEY("first_id") TEXT_OR_NULL KEY("last_id") TEXT_OR_NULL)},
    {"PermissionDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'checkpoint.permission'") KEY("deleted") ONLY("true"))},
    {"Webhook", OBJECT("'id','object','created_at','url','status','disabled_reason'", WEBHOOK_FIELDS)},
    {"WebhookSecret", OBJECT("'id','object','created_at','url','status','disabled_reason','secret'",
        WEBHOOK_FIELDS KEY("secret") TEXT)},
    {"WebhookList", LIST_OF("Webhook", "", "")},
    {"WebhookDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'webhook_endpoint'") KEY("deleted") ONLY("true"))},
    {"WebhookDelivery", OBJECT("'id','object','webhook_endpoint_id','type'",
        FIRST("id") TEXT KEY("object") ONLY("'webhook_delivery'") KEY("webhook_endpoint_id") TEXT KEY("type") TEXT)},
    {"WebhookCreate", CLOSED("'url'",
        FIRST("url") "{'type':'string','maxLength':2048,'pattern':'^https?://[!$-.0-9;=A-\\\\[\\\\]-~][!$-.0-;=A-\\\\[\\\\]-~]*([/?][!$-;=?-\\\\[\\\\]-~]*)?$'}")},

    {"Status", OBJECT("'status'", FIRST("status") TEXT KEY("version") TEXT)},
};
/* clang-format on */

/* 'a' becomes "a". */
static json_t *parse(const char *text) {
    char *quoted = xstrdup(text);
    for (char *p = quoted; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    json_t *value = json_loads(quoted, JSON_REJECT_DUPLICATES, NULL);
    free(quoted);
    return value;
}

json_t *api__schemas(void) {
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        json_object_set_new(all, schemas[i][0], parse(schemas[i][1]));
    return all;
}
