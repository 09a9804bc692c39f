/* api_model_delete: DELETE /v1/models/{model}: a fine-tuned model or one of its checkpoints. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "api/model_roots.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/trash.h"

static void refuse_base(struct api *api, const char *name, struct api_response *resp) {
    char *dir = model_roots_find(api->config->model_roots, name);
    if (dir != NULL)
        api_error(resp, 403, "model_not_deletable", "model",
                  "%s is a base model; only fine-tuned models can be deleted.", name);
    else
        api_error(resp, 404, "model_not_found", "model", "The model '%s' does not exist", name);
    free(dir);
}

/* The folder leaves its name as a whole, so that it is never half a checkpoint, and for ever. */
static enum err delete_checkpoint(struct api *api, const char *name, const char *folder,
                                  struct err_msg *em) {
    char *all = xstrndup(folder, (size_t)(strrchr(folder, '/') - folder));
    enum err e = store_checkpoint_delete(api->store, name, em);
    if (e == ERR_OK)
        e = trash_put(api->config->data_dir, folder, em);
    if (e == ERR_OK)
        e = file_sync_dir(all, em);
    free(all);
    return e;
}

API_HANDLER(api__models_delete) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0];
    struct job_row job;
    char *folder = NULL;
    if (!api__model_is_tuned(name)) {
        refuse_base(api, name, resp);
        return;
    }
    enum err e = api__model_open(api->config, api->store, req->project, name, &job, &folder, &em);
    if (e == ERR_NOT_FOUND) {
        api_error(resp, 404, "model_not_found", "model", "The model '%s' does not exist", name);
        return;
    }
    if (e == ERR_OK && strcmp(job.project, req->project) != 0) {
        api_error(resp, 403, "model_not_deletable", "model",
                  "%s is another project's, which lets this one use it.", name);
    } else if (e == ERR_OK) {
        e = strstr(name, API_CHECKPOINT_MARK) != NULL ? delete_checkpoint(api, name, folder, &em)
                                                      : store_model_delete(api->store, &job, &em);
    }
    if (e == ERR_CONFLICT)
        api_error(resp, 400, "model_in_use", "model", "%s", em.text);
    else if (e != ERR_OK)
        api_error_from(resp, &em);
    else if (resp->status == 0)
        api__ok(resp, json_pack("{s:s, s:s, s:b}", "id", name, "object", "model", "deleted", 1));
    free(folder);
    job_row_clear(&job);
}
