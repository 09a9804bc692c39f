/* api_schemas: the objects of the API as JSON schemas, for openapi.json.
 *
 * Bodies of requests are made from the tables that read them. The rest is written with ' for ".
 * Answers may get more keys, so their objects are open; tests take them as closed. */
#include "api/openapi.h"

/* clang-format off */
#define TEXT          "{'type':'string'}"
#define TEXT_OR_NULL  "{'type':['string','null']}"
#define FLAG          "{'type':'boolean'}"
#define COUNT         "{'type':'integer','minimum':0}"
#define INTEGER       "{'type':'integer'}"
#define INTEGER_OR_NULL "{'type':['integer','null']}"
#define NUMBER        "{'type':'number'}"
#define NUMBER_OR_NULL  "{'type':['number','null']}"
#define TIME          "{'type':'integer','description':'Unix seconds'}"
#define TIME_OR_NULL  "{'type':['integer','null'],'description':'Unix seconds'}"
#define ONLY(value)   "{'const':" value "}"
#define ONE_OF(values) "{'enum':[" values "]}"
#define INT(lo, hi)   "{'type':'integer','minimum':" lo ",'maximum':" hi "}"
#define REAL(lo, hi)  "{'type':'number','minimum':" lo ",'maximum':" hi "}"
#define ABOVE(lo, hi) "{'type':'number','exclusiveMinimum':" lo ",'maximum':" hi "}"
#define REF(name)     "{'$ref':'#/components/schemas/" name "'}"
#define OR_NULL(schema) "{'oneOf':[{'type':'null'}," schema "]}"
#define AUTO_OR(schema) "{'oneOf':[{'const':'auto'}," schema "]}"
#define ARRAY(items)  "{'type':'array','items':" items "}"
#define KEY(name)     ",'" name "':"
#define FIRST(name)   "'" name "':"
#define OBJECT(required, properties) \
    "{'type':'object','required':[" required "],'properties':{" properties "}}"
/* A part of a request: other keys are refused. */
#define CLOSED(required, properties) \
    "{'type':'object','additionalProperties':false,'required':[" required "],'properties':{" properties "}}"
#define WEBHOOK_TYPES "'fine_tuning.job.succeeded','fine_tuning.job.failed','fine_tuning.job.cancelled'"
#define WEBHOOK_REQUIRED \
    "'id','object','created_at','updated_at','name','url','signing_secret_hint','event_types','status'," \
    "'disabled_reason'"
#define WEBHOOK_FIELDS \
    FIRST("id") TEXT KEY("object") ONLY("'webhook_endpoint'") KEY("created_at") TIME KEY("updated_at") TIME \
    KEY("name") TEXT KEY("url") TEXT KEY("signing_secret_hint") TEXT \
    KEY("event_types") ARRAY(ONE_OF(WEBHOOK_TYPES)) KEY("status") ONE_OF("'enabled','disabled'") KEY("disabled_reason") TEXT_OR_NULL
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
    {"PartUpload", CLOSED("'data'", FIRST("data") "{'type':'string','format':'binary'}")},

    {"JobHyperparameters", OBJECT("'n_epochs','batch_size','learning_rate_multiplier'",
        FIRST("n_epochs") AUTO_OR(INTEGER)
        KEY("batch_size") AUTO_OR(INTEGER)
        KEY("learning_rate_multiplier") AUTO_OR(NUMBER))},
    {"JobMethod", OBJECT("'type','supervised'",
        FIRST("type") ONLY("'supervised'")
        KEY("supervised") OBJECT("'hyperparameters'", FIRST("hyperparameters") REF("JobHyperparameters")))},
    {"JobError", OBJECT("'code','message','param'",
        FIRST("code") TEXT KEY("message") TEXT KEY("param") TEXT_OR_NULL)},
    {"JobProgress", OBJECT("'step','total_steps','percent'",
        FIRST("step") NUMBER_OR_NULL KEY("total_steps") NUMBER_OR_NULL KEY("percent") REAL("0", "100"))},
    {"JobFlops", OBJECT("'training','fast_forward','total'",
        FIRST("training") NUMBER_OR_NULL KEY("fast_forward") NUMBER_OR_NULL KEY("total") NUMBER_OR_NULL)},
    {"JobOwn", OBJECT("'progress','queue_position','tokens_per_second','flops','fast_forward','device','attempt',"
                      "'priority','started_at','cancel_requested','pause_requested'",
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
    {"FileReport", "{'type':['object','null'],'description':'what ffwd check --json reports on a file',"
        "'required':['ok','kind','rows','tokens','errors','warnings'],'properties':{"
        FIRST("ok") FLAG
        KEY("kind") TEXT
        KEY("rows") COUNT KEY("lines") COUNT KEY("bytes") COUNT KEY("blank_lines") COUNT
        KEY("tokens") COUNT KEY("trained_tokens") COUNT KEY("truncated") COUNT KEY("dropped") COUNT
        KEY("untrained") COUNT KEY("duplicates") COUNT KEY("max_seq_len") COUNT KEY("tokenized_rows") COUNT
        KEY("lengths") OBJECT("'min','median','p95','max'",
            FIRST("min") COUNT KEY("median") COUNT KEY("p95") COUNT KEY("max") COUNT)
        KEY("param") TEXT
        KEY("errors") ARRAY(OBJECT("'line','offset','reason'",
            FIRST("line") COUNT KEY("offset") COUNT KEY("reason") TEXT))
        KEY("error_count") COUNT
        KEY("warnings") ARRAY(TEXT)
        KEY("sha256") TEXT
        KEY("template") TEXT_OR_NULL "}}"},
    {"JobEstimate", "{'type':['object','null'],'description':'what the job would take',"
        "'required':['exact','hyperparameters','total_steps','tokens','flops','memory_bytes','seconds'],"
        "'properties':{"
        FIRST("exact") FLAG
        KEY("hyperparameters") REF("JobHyperparameters")
        KEY("total_steps") COUNT KEY("steps_per_epoch") COUNT KEY("warmup_steps") COUNT
        KEY("max_seq_len") COUNT KEY("training_rows") COUNT KEY("fast_forward_rows") COUNT
        KEY("validation_rows") COUNT KEY("tokens_per_epoch") COUNT KEY("tokens") COUNT
        KEY("evaluations") COUNT KEY("trainable_parameters") COUNT
        KEY("learning_rate") NUMBER
        KEY("memory_bytes") OBJECT("'process','weights','adapter','activations','scratch','total'",
            FIRST("process") COUNT KEY("weights") COUNT KEY("adapter") COUNT KEY("activations") COUNT
            KEY("scratch") COUNT KEY("total") COUNT)
        KEY("flops") OBJECT("'training','fast_forward','validation'",
            FIRST("training") NUMBER KEY("fast_forward") NUMBER KEY("validation") NUMBER)
        KEY("seconds") NUMBER_OR_NULL
        KEY("seconds_basis") TEXT_OR_NULL "}}"},
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
                   "'error','fine_tuned_model','finished_at','trained_tokens','estimated_finish',"
                   "'integrations','metadata','user_provided_suffix','ffwd'",
        FIRST("id") TEXT
        KEY("object") ONLY("'fine_tuning.job'")
        KEY("created_at") TIME
        KEY("model") TEXT
        KEY("organization_id") TEXT
        KEY("training_file") TEXT
        KEY("validation_file") TEXT_OR_NULL
        KEY("status") ONE_OF("'validating_files','queued','running','paused','succeeded','failed','cancelled'")
        KEY("hyperparameters") REF("JobHyperparameters")
        KEY("method") REF("JobMethod")
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
    {"StreamEvent", "{'type':'object','description':'one server-sent event','required':['data'],'properties':{"
        FIRST("id") TEXT KEY("event") ONLY("'message'")
        KEY("data") "{'oneOf':[{'const':'[DONE]','description':'the last one'},{'type':'string',"
            "'contentMediaType':'application/json','contentSchema':" REF("Event") ",'pattern':'^[{]'}]}}}"},
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
    {"Permission", OBJECT("'id','object','created_at','project_id'",
        FIRST("id") TEXT
        KEY("object") ONLY("'checkpoint.permission'")
        KEY("created_at") TIME
        KEY("project_id") TEXT)},
    {"PermissionList", LIST_OF("Permission", ",'first_id','last_id'",
        KEY("first_id") TEXT_OR_NULL KEY("last_id") TEXT_OR_NULL)},
    {"PermissionDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'checkpoint.permission'") KEY("deleted") ONLY("true"))},
    {"Webhook", OBJECT(WEBHOOK_REQUIRED, WEBHOOK_FIELDS)},
    {"WebhookSecret", OBJECT(WEBHOOK_REQUIRED ",'signing_secret'", WEBHOOK_FIELDS KEY("signing_secret") TEXT)},
    {"WebhookList", LIST_OF("Webhook", ",'first_id','last_id'",
        KEY("first_id") TEXT_OR_NULL KEY("last_id") TEXT_OR_NULL)},
    {"WebhookEventTypes", OBJECT("'object','data'",
        FIRST("object") ONLY("'list'") KEY("data") ARRAY(ONE_OF(WEBHOOK_TYPES)))},
    {"WebhookDeleted", OBJECT("'id','object','deleted'",
        FIRST("id") TEXT KEY("object") ONLY("'webhook_endpoint.deleted'") KEY("deleted") ONLY("true"))},
    {"WebhookTest", OBJECT("'id','object','webhook_endpoint_id','event_type','status_code','success'",
        FIRST("id") TEXT KEY("object") ONLY("'webhook_endpoint.test'") KEY("webhook_endpoint_id") TEXT
        KEY("event_type") TEXT KEY("status_code") COUNT KEY("success") ONLY("true"))},

    {"Status", OBJECT("'status'", FIRST("status") TEXT KEY("version") TEXT KEY("reason") TEXT)},
};
/* clang-format on */

json_t *openapi_schemas(void) {
    static const struct json_table *const bodies[] = {
        &job_request_table,          &api__job_update_table,        &api__upload_create_table,
        &api__upload_complete_table, &api__permission_create_table, &api__webhook_create_table,
        &api__webhook_update_table,  &api__webhook_rotate_table,    &api__webhook_test_table};
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        json_object_set_new(all, schemas[i][0], json_table_parse(schemas[i][1]));
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        json_decref(json_table_schema(bodies[i], all));
    return all;
}
