/* api_schemas: the objects of the API as JSON schemas, for openapi.json.
 *
 * Written with ' for ", which no schema here needs otherwise. Ranges repeat those of the readers
 * (base/job_request.c, api_files.c); a test sends both ends of each. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define TIME "{'type':'integer','description':'Unix seconds'}"
#define TIME_OR_NULL "{'type':['integer','null'],'description':'Unix seconds'}"
#define TEXT "{'type':'string'}"
#define TEXT_OR_NULL "{'type':['string','null']}"
#define COUNT "{'type':'integer','minimum':0}"
#define NUMBER_OR_NULL "{'type':['number','null']}"
#define FLAG "{'type':'boolean'}"
#define REF(name) "{'$ref':'#/components/schemas/" name "'}"
#define AUTO_OR(schema) "{'oneOf':[{'const':'auto'}," schema ",{'type':'null'}]}"
#define OBJECT(required, properties)                                                               \
    "{'type':'object','required':[" required "],'properties':{" properties "}}"
/* A part of a request: other keys are refused. */
#define CLOSED(required, properties)                                                               \
    "{'type':'object','additionalProperties':false,'required':[" required                          \
    "],'properties':{" properties "}}"
#define LIST_OF(name, more_required, more)                                                         \
    OBJECT("'object','data','has_more'" more_required,                                             \
           "'object':{'const':'list'},'data':{'type':'array','items':" REF(                        \
               name) "},'has_more':" FLAG more)

static const char *const schemas[][2] = {
    {"Error",
     OBJECT("'error'", "'error':" OBJECT("'message','type','param','code'",
                                         "'message':" TEXT ",'type':" TEXT ",'param':" TEXT_OR_NULL
                                         ",'code':" TEXT_OR_NULL))},

    {"File", OBJECT("'id','object','bytes','created_at','filename','purpose','status'",
                    "'id':" TEXT ",'object':{'const':'file'},'bytes':" COUNT ",'created_at':" TIME
                    ",'expires_at':" TIME ",'filename':" TEXT
                    ",'purpose':{'enum':['fine-tune','fine-tune-results','assistants','batch',"
                    "'vision','user_data']},'status':{'const':'processed'}")},
    {"FileList", LIST_OF("File", ",'first_id','last_id'", ",'first_id':" TEXT ",'last_id':" TEXT)},
    {"FileDeleted", OBJECT("'id','object','deleted'",
                           "'id':" TEXT ",'object':{'const':'file'},'deleted':{'const':true}")},
    {"FileUpload",
     "{'type':'object','additionalProperties':false,'required':['file','purpose'],"
     "'dependentRequired':{'expires_after[anchor]':['expires_after[seconds]'],"
     "'expires_after[seconds]':['expires_after[anchor]']},'properties':{"
     "'file':{'type':'string','format':'binary'},"
     "'purpose':{'enum':['fine-tune','assistants','batch','vision','user_data']},"
     "'expires_after[anchor]':{'const':'created_at'},"
     "'expires_after[seconds]':{'type':'integer','minimum':3600,'maximum':2592000}}}"},

    {"Hyperparameters",
     CLOSED("", "'n_epochs':" AUTO_OR(
                    "{'type':'integer','minimum':1,'maximum':100}") ","
                                                                    "'batch_size':" AUTO_OR(
                                                                        "{'type':'integer','"
                                                                        "minimum':1,'maximum':"
                                                                        "1024}") ","
                                                                                 "'learning_rate_"
                                                                                 "multiplier'"
                                                                                 ":" AUTO_OR(
                                                                                     "{'type':'"
                                                                                     "number','"
                                                                                     "exclusiveMini"
                                                                                     "mum':0,'"
                                                                                     "maximum':"
                                                                                     "1000000}"))},
    {"Method", CLOSED("'type'", "'type':{'const':'supervised'},'supervised':" CLOSED(
                                    "", "'hyperparameters':" REF("Hyperparameters")))},
    {"Lora",
     CLOSED("", "'rank':{'type':'integer','minimum':1,'maximum':512},"
                "'alpha':{'type':'number','exclusiveMinimum':0,'maximum':65536},"
                "'dropout':{'type':'number','minimum':0,'exclusiveMaximum':1},"
                "'target_modules':{'oneOf':[{'const':'all-linear'},{'type':'array','minItems':1,"
                "'maxItems':64,'items':{'type':'string','minLength':1,'maxLength':64}}]},"
                "'use_rslora':" FLAG ",'use_dora':{'const':false}")},
    {"FastForward",
     CLOSED("", "'enabled':" FLAG ",'interval':{'type':'integer','minimum':1,'maximum':10000},"
                "'validation_examples':{'type':'integer','minimum':1,'maximum':10000},"
                "'search':{'enum':['auto','linear','paper']},"
                "'max_steps':{'type':'integer','minimum':1,'maximum':100000}")},
    {"Training", CLOSED(
                     "",
                     "'learning_rate':" AUTO_OR("{'type':'number','exclusiveMinimum':0,'maximum':"
                                                "1}") ","
                                                      "'lr_schedule':{'enum':['constant','linear','"
                                                      "cosine']},"
                                                      "'warmup_ratio':{'type':'number','minimum':0,"
                                                      "'maximum':1},"
                                                      "'weight_decay':{'type':'number','minimum':0,"
                                                      "'maximum':1},"
                                                      "'max_grad_norm':{'type':'number','"
                                                      "exclusiveMinimum':0,'maximum':1000000000},"
                                                      "'max_seq_len':{'type':'integer','minimum':2,"
                                                      "'maximum':1048576},"
                                                      "'packing':" FLAG ",'shuffle':" FLAG ","
                                                      "'long_examples':{'enum':['truncate','drop','"
                                                      "fail']},"
                                                      "'train_on':{'enum':['assistant','response','"
                                                      "all']},"
                                                      "'max_steps':{'type':['integer','null'],'"
                                                      "minimum':1,'maximum':10000000},"
                                                      "'target_loss':{'type':['number','null'],'"
                                                      "exclusiveMinimum':0,'maximum':1000000},"
                                                      "'eval_interval':{'type':'integer','minimum':"
                                                      "0,'maximum':10000000},"
                                                      "'checkpoint_interval':{'type':'integer','"
                                                      "minimum':0,'maximum':10000000},"
                                                      "'early_stopping':{'oneOf':[{'type':'null'}"
                                                      "," CLOSED(
                                                          "'patience'",
                                                          "'patience':{'type':'integer','minimum':"
                                                          "1,'maximum':10000},"
                                                          "'min_delta':{'type':'number','minimum':"
                                                          "0,'maximum':1000000}") "]}")},
    {"JobCreate",
     CLOSED(
         "'model','training_file'",
         "'model':{'type':'string','minLength':1,'maxLength':255},"
         "'training_file':{'type':'string','minLength':1,'maxLength':255},"
         "'validation_file':{'type':['string','null'],'minLength':1,'maxLength':255},"
         "'suffix':{'type':['string','null'],'minLength':1,'maxLength':64,"
         "'pattern':'^[^/:\\\\\\\\\\\\u0000-\\\\u001f\\\\u007f]*$'},"
         "'seed':{'type':['integer','null'],'minimum':0,'maximum':2147483647},"
         "'metadata':{'type':['object','null'],'maxProperties':16,"
         "'propertyNames':{'maxLength':64},"
         "'additionalProperties':{'type':'string','maxLength':512}},"
         "'integrations':{'type':['array','null'],'maxItems':0},"
         "'method':{'oneOf':[{'type':'null'}," REF(
             "Method") "]},"
                       "'hyperparameters':{'oneOf':[{'type':'null'}," REF(
                           "Hyperparameters") "],"
                                              "'deprecated':true},"
                                              "'lora':" REF("Lora") ",'fast_forward':" REF(
                                                  "FastForward") ","
                                                                 "'training':" REF(
                                                                     "Training") ","
                                                                                 "'priority':{'"
                                                                                 "type':'integer','"
                                                                                 "minimum':-100,'"
                                                                                 "maximum':100,'"
                                                                                 "default':0},"
                                                                                 "'dry_run':{'"
                                                                                 "const':false}")},

    {"JobError", OBJECT("'code','message','param'",
                        "'code':" TEXT ",'message':" TEXT ",'param':" TEXT_OR_NULL)},
    {"JobProgress", OBJECT("'step','total_steps','percent'",
                           "'step':" NUMBER_OR_NULL ",'total_steps':" NUMBER_OR_NULL
                           ",'percent':{'type':'number'}")},
    {"JobOwn",
     OBJECT("'progress','queue_position','tokens_per_second','flops','fast_forward','device',"
            "'attempt'",
            "'progress':{'oneOf':[{'type':'null'}," REF(
                "JobProgress") "]},"
                               "'queue_position':{'type':['integer','null']},'tokens_per_second'"
                               ":" NUMBER_OR_NULL ",'flops':" OBJECT(
                                   "'training','fast_forward','total'",
                                   "'training':" NUMBER_OR_NULL ",'fast_forward':" NUMBER_OR_NULL
                                   ",'total':" NUMBER_OR_NULL) ",'fast_forward':{'type':['object','"
                                                               "null']},"
                                                               "'device':{'type':['object','string'"
                                                               ",'null']},'attempt':" COUNT
                                                               ",'priority':{'type':'integer'},'"
                                                               "started_at':" TIME_OR_NULL
                                                               ",'cancel_requested':" FLAG)},
    {"Job",
     OBJECT("'id','object','created_at','model','organization_id','training_file',"
            "'validation_file','status','hyperparameters','method','result_files','seed','error',"
            "'fine_tuned_model','finished_at','trained_tokens','ffwd'",
            "'id':" TEXT ",'object':{'const':'fine_tuning.job'},'created_at':" TIME ",'model':" TEXT
            ",'organization_id':" TEXT ",'training_file':" TEXT ",'validation_file':" TEXT_OR_NULL
            ",'status':{'enum':['validating_files','queued',"
            "'running','paused','succeeded','failed','cancelled']},"
            "'hyperparameters':" REF("Hyperparameters") ",'method':" REF(
                "Method") ",'result_files':{'type':'array','items':" TEXT
                          "},'seed':{'type':'integer'},"
                          "'error':{'oneOf':[{'type':'null'}," REF(
                              "JobError") "]},"
                                          "'fine_tuned_model':" TEXT_OR_NULL
                                          ",'finished_at':" TIME_OR_NULL
                                          ",'trained_tokens':{'type':['integer','null']},'"
                                          "estimated_finish':" TIME_OR_NULL
                                          ",'integrations':{'type':'array','maxItems':0},"
                                          "'metadata':{'type':['object','null'],'"
                                          "additionalProperties':" TEXT "},"
                                          "'user_provided_suffix':" TEXT_OR_NULL
                                          ",'ffwd':" REF("JobOwn"))},
    {"JobList", LIST_OF("Job", "", "")},

    {"Event", OBJECT("'id','object','created_at','level','message','type','data'",
                     "'id':" TEXT ",'object':{'const':'fine_tuning.job.event'},'created_at':" TIME
                     ",'level':{'enum':['info','warn','error']},'message':" TEXT
                     ",'type':{'enum':['message','metrics']},'data':{'type':'object'}")},
    {"EventList", LIST_OF("Event", "", "")},
    {"Checkpoint",
     OBJECT("'id','object','created_at','fine_tuned_model_checkpoint','fine_tuning_job_id',"
            "'step_number','metrics'",
            "'id':" TEXT ",'object':{'const':'fine_tuning.job.checkpoint'},'created_at':" TIME
            ",'fine_tuned_model_checkpoint':" TEXT ",'fine_tuning_job_id':" TEXT
            ",'step_number':" COUNT ",'metrics':{'type':'object',"
            "'additionalProperties':{'type':'number'}}")},
    {"CheckpointList", LIST_OF("Checkpoint", ",'first_id','last_id'",
                               ",'first_id':" TEXT_OR_NULL ",'last_id':" TEXT_OR_NULL)},

    {"Model",
     OBJECT("'id','object','created','owned_by'",
            "'id':" TEXT ",'object':{'const':'model'},'created':" TIME ",'owned_by':" TEXT)},
    {"ModelList", OBJECT("'object','data'", "'object':{'const':'list'},"
                                            "'data':{'type':'array','items':" REF("Model") "}")},
    {"Status", OBJECT("'status'", "'status':" TEXT ",'version':" TEXT)},
};

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
