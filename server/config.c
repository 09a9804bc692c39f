/* config: what the server is told, from the command line and from --config FILE. */
#include "server/config.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json_field.h"
#include "base/limits.h"
#include "base/mem.h"

#define MAX_STRINGS 64 /* model roots, origins */

const char *config_help(void) {
    return "usage: ffwd-server [options]\n"
           "       ffwd-server keys create [--name NAME] [--project NAME] [--data DIR]\n"
           "       ffwd-server keys list [--data DIR]\n"
           "       ffwd-server keys revoke ID [--data DIR]\n"
           "       ffwd-server webhooks create --url URL [--project NAME] [--data DIR]\n"
           "       ffwd-server webhooks list [--project NAME] [--data DIR]\n"
           "       ffwd-server webhooks delete|rotate|test ID [--data DIR]\n"
           "       ffwd-server webhooks deliveries [ID] [--state pending|delivered|failed] [--data "
           "DIR]\n"
           "       ffwd-server webhooks redeliver DELIVERY [--data DIR]\n"
           "       ffwd-server backup --to DIR [--data DIR]\n"
           "\n"
           "Serves the OpenAI fine-tuning API and trains LoRA adapters with Fast Forward.\n"
           "\n"
           "  --data DIR            where files, jobs and adapters are kept (./ffwd-data)\n"
           "  --models DIR[:DIR...] folders that hold base models (./models, else\n"
           "                        ./examples/models)\n"
           "  --listen ADDR:PORT    where to listen (127.0.0.1:8080); port 0 takes a free one;\n"
           "                        an address that is not loopback needs an API key first\n"
           "  --device D            auto, cpu or cuda[:N] (auto)\n"
           "  --threads N           CPU threads of the trainer (the engine's choice)\n"
           "  --engine PATH         the trainer program (ffwd beside this program)\n"
           "  --log-level L         debug, info, warn or error: the least that is logged (info);\n"
           "                        a request is info\n"
           "  --config FILE         JSON with the same keys and \"cors_origins\", \"metrics\",\n"
           "                        \"webhook_allow\", \"webhook_ca_file\", \"limits\"\n"
           "  --version             the version of this program\n"
           "  --help                this text\n"
           "\n"
           "Without any key the server answers on loopback only, to everyone on this machine.\n"
           "`keys create` prints a new key; from then on every /v1 request needs one.\n"
           "`webhooks create` prints the secret that signs what the address is sent.\n"
           "`backup` copies all that --data holds into a new folder, also while a server runs.\n"
           "SIGTERM, SIGINT and SIGHUP stop after a checkpoint of the running job, which goes on\n"
           "at the next start; under nohup SIGHUP does nothing.\n";
}

static void replace(char **field, const char *text) {
    free(*field);
    *field = xstrdup(text);
}

static void free_list(char ***list) {
    for (char **p = *list; p != NULL && *p != NULL; p++)
        free(*p);
    free(*list);
    *list = NULL;
}

void config_clear(struct config *c) {
    free(c->data_dir);
    free(c->listen);
    free(c->device);
    free(c->engine);
    free(c->file);
    free_list(&c->model_roots);
    free_list(&c->cors_origins);
    free(c->webhook_allow);
    free(c->webhook_ca_file);
    *c = (struct config){0};
}

static enum err set_roots(struct config *c, const char *text, struct err_msg *em) {
    free_list(&c->model_roots);
    c->model_roots = xcalloc(MAX_STRINGS + 1, sizeof *c->model_roots);
    int n = 0;
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, ":");
        if (len > 0 && n == MAX_STRINGS)
            return err_set_param(em, ERR_USAGE, "models", "--models has more than %d folders",
                                 MAX_STRINGS);
        if (len > 0)
            c->model_roots[n++] = xstrndup(p, len);
        p += len + (p[len] == ':');
    }
    return n > 0 ? ERR_OK : err_set_param(em, ERR_USAGE, "models", "--models names no folder");
}

static bool device_name_is_good(const char *d) {
    if (strcmp(d, "auto") == 0 || strcmp(d, "cpu") == 0 || strcmp(d, "cuda") == 0)
        return true;
    size_t n = strlen(d);
    return strncmp(d, "cuda:", 5) == 0 && n > 5 && n < 9 && strspn(d + 5, "0123456789") == n - 5;
}

/* ---- file ----------------------------------------------------------------------------------- */

static enum err read_limits(const json_t *object, struct config *c, const struct json_place *at) {
    if (!json_is_object(object))
        return json_field_wrong(at, "an object");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        struct json_place place;
        json_place_child(at, key, &place);
        enum err e = ERR_NOT_FOUND;
#define CONFIG_READ(field, normal, least, most)                                                    \
    if (strcmp(key, #field) == 0)                                                                  \
        e = json_field_int(value, least, most, &c->limits.field, &place);
        CONFIG_LIMITS(CONFIG_READ)
#undef CONFIG_READ
        if (e == ERR_NOT_FOUND)
            return err_set_param(at->em, ERR_INPUT, place.path, "%s is not a known key",
                                 place.path);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static enum err read_origins(const json_t *array, struct config *c, const struct json_place *at) {
    if (!json_is_array(array) || json_array_size(array) > MAX_STRINGS)
        return json_field_wrong(at, "an array of at most 64 origins like \"https://example.org\"");
    free_list(&c->cors_origins);
    c->cors_origins = xcalloc(MAX_STRINGS + 1, sizeof *c->cors_origins);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *origin = json_string_value(json_array_get(array, i));
        if (origin == NULL || strstr(origin, "://") == NULL || strpbrk(origin, " \r\n*") != NULL)
            return json_field_wrong(at, "an array of origins like \"https://example.org\"");
        c->cors_origins[i] = xstrdup(origin);
    }
    return ERR_OK;
}

static enum err read_metrics(const json_t *value, struct config *c, const struct json_place *at) {
    static const char *const names[] = {"loopback", "key", "open"};
    const char *text = json_string_value(value);
    for (int i = 0; text != NULL && i < 3; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        c->metrics = (enum config_metrics)i;
        return ERR_OK;
    }
    return json_field_wrong(at, "\"loopback\", \"key\" or \"open\"");
}

static enum err read_log_level(const json_t *value, struct config *c, const struct json_place *at) {
    if (log_level_parse(json_string_value(value), &c->log_level))
        return ERR_OK;
    return json_field_wrong(at, "\"debug\", \"info\", \"warn\" or \"error\"");
}

static enum err read_ranges(const json_t *array, struct config *c, const struct json_place *at) {
    if (!json_is_array(array) || json_array_size(array) > MAX_STRINGS)
        return json_field_wrong(at, "an array of at most 64 ranges like \"10.0.0.0/8\"");
    free(c->webhook_allow);
    c->webhook_allow = xcalloc(MAX_STRINGS, sizeof *c->webhook_allow);
    c->n_webhook_allow = 0;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL || !address_range_parse(text, &c->webhook_allow[c->n_webhook_allow++]))
            return json_field_wrong(at, "an array of ranges like \"10.0.0.0/8\" or \"fd00::/8\"");
    }
    return ERR_OK;
}

static enum err read_key(struct config *c, const char *key, const json_t *value,
                         const struct json_place *at) {
    char *roots = NULL;
    enum err e;
    if (strcmp(key, "data") == 0)
        return json_field_string(value, 4096, &c->data_dir, at);
    if (strcmp(key, "listen") == 0)
        return json_field_string(value, 256, &c->listen, at);
    if (strcmp(key, "device") == 0)
        return json_field_string(value, 16, &c->device, at);
    if (strcmp(key, "engine") == 0)
        return json_field_string(value, 4096, &c->engine, at);
    if (strcmp(key, "threads") == 0)
        return json_field_int(value, 0, LIMIT_THREADS, &c->threads, at);
    if (strcmp(key, "log_level") == 0)
        return read_log_level(value, c, at);
    if (strcmp(key, "limits") == 0)
        return read_limits(value, c, at);
    if (strcmp(key, "cors_origins") == 0)
        return read_origins(value, c, at);
    if (strcmp(key, "metrics") == 0)
        return read_metrics(value, c, at);
    if (strcmp(key, "webhook_allow") == 0)
        return read_ranges(value, c, at);
    if (strcmp(key, "webhook_ca_file") == 0)
        return json_field_string(value, 4096, &c->webhook_ca_file, at);
    if (strcmp(key, "models") != 0)
        return err_set_param(at->em, ERR_INPUT, at->path, "%s is not a known key", at->path);
    e = json_field_string(value, 65536, &roots, at);
    if (e == ERR_OK)
        e = set_roots(c, roots, at->em);
    free(roots);
    return e;
}

static enum err read_file(struct config *c, struct err_msg *em) {
    char *text = NULL;
    size_t len = 0;
    json_t *root = NULL;
    enum err e = file_read(c->file, LIMIT_CONFIG_FILE, &text, &len, em);
    if (e != ERR_OK)
        return e;
    json_error_t je;
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (root == NULL)
        e = err_set(em, ERR_INPUT, "line %d, column %d: %s", je.line, je.column, je.text);
    else if (!json_is_object(root))
        e = err_set(em, ERR_INPUT, "the configuration must be a JSON object");
    const char *key;
    json_t *value;
    if (e == ERR_OK) {
        json_object_foreach(root, key, value) {
            struct json_place at = {.em = em};
            (void)snprintf(at.path, sizeof at.path, "%s", key);
            e = read_key(c, key, value, &at);
            if (e != ERR_OK)
                break;
        }
    }
    if (e != ERR_OK)
        err_prefix(em, "%s", c->file);
    json_decref(root);
    free(text);
    return e;
}

bool config_fit_limits(struct config_limits *limits, int64_t open_files) {
    int64_t most = open_files > 8 ? open_files : 8;
    bool fits = limits->connections <= most;
    if (!fits)
        limits->connections = most;
    int64_t for_streams = limits->connections - limits->connections / 8;
    if (limits->streams > for_streams)
        limits->streams = for_streams;
    return fits;
}

/* ---- defaults and command line -------------------------------------------------------------- */

static char *engine_beside_us(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return xstrdup("ffwd");
    *slash = '\0';
    return xasprintf("%s/ffwd", path);
}

static enum err set_defaults(struct config *c, struct err_msg *em) {
    struct stat st;
    bool own = stat("models", &st) == 0 && S_ISDIR(st.st_mode);
    c->data_dir = xstrdup("ffwd-data");
    c->listen = xstrdup("127.0.0.1:8080");
    c->device = xstrdup("auto");
    c->engine = engine_beside_us();
    c->log_level = LOG_INFO;
    c->cors_origins = xcalloc(1, sizeof *c->cors_origins);
#define CONFIG_DEFAULT(field, value, least, most) c->limits.field = value;
    CONFIG_LIMITS(CONFIG_DEFAULT)
#undef CONFIG_DEFAULT
    return set_roots(c, own ? "models" : "examples/models", em);
}

static const struct option long_options[] = {{"data", required_argument, NULL, 'd'},
                                             {"models", required_argument, NULL, 'm'},
                                             {"listen", required_argument, NULL, 'l'},
                                             {"device", required_argument, NULL, 'D'},
                                             {"threads", required_argument, NULL, 't'},
                                             {"engine", required_argument, NULL, 'e'},
                                             {"config", required_argument, NULL, 'c'},
                                             {"log-level", required_argument, NULL, 'L'},
                                             {"version", no_argument, NULL, 'v'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

static enum err set_threads(struct config *c, const char *text, struct err_msg *em) {
    char *end = NULL;
    long n = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < 0 || n > LIMIT_THREADS)
        return err_set_param(em, ERR_USAGE, "threads", "--threads must be 0 to %d", LIMIT_THREADS);
    c->threads = n;
    return ERR_OK;
}

static enum err apply_option(struct config *c, int option, struct err_msg *em) {
    switch (option) {
    case 'd':
        replace(&c->data_dir, optarg);
        return ERR_OK;
    case 'm':
        return set_roots(c, optarg, em);
    case 'l':
        replace(&c->listen, optarg);
        return ERR_OK;
    case 'D':
        replace(&c->device, optarg);
        return ERR_OK;
    case 't':
        return set_threads(c, optarg, em);
    case 'e':
        replace(&c->engine, optarg);
        return ERR_OK;
    case 'c':
        replace(&c->file, optarg);
        return ERR_OK;
    case 'L':
        if (log_level_parse(optarg, &c->log_level))
            return ERR_OK;
        return err_set_param(em, ERR_USAGE, "log_level",
                             "--log-level must be debug, info, warn or error, not %s", optarg);
    case 'v':
        c->version = true;
        return ERR_OK;
    case 'h':
        c->help = true;
        return ERR_OK;
    case ':':
        return err_set(em, ERR_USAGE, "the option needs a value; see ffwd-server --help");
    default:
        return err_set(em, ERR_USAGE, "unknown option; see ffwd-server --help");
    }
}

static enum err read_options(struct config *c, int argc, char **argv, bool only_file,
                             struct err_msg *em) {
    enum err e = ERR_OK;
    optind = 0;
    opterr = 0;
    for (int o; e == ERR_OK && (o = getopt_long(argc, argv, ":", long_options, NULL)) != -1;) {
        if (only_file && o != 'c' && o != '?' && o != ':')
            continue;
        e = apply_option(c, o, em);
        if (e != ERR_OK && (o == '?' || o == ':'))
            err_prefix(em, "%s", argv[optind - 1]);
    }
    if (e == ERR_OK && optind < argc)
        e = err_set(em, ERR_USAGE, "%s: unexpected; see ffwd-server --help", argv[optind]);
    return e;
}

enum err config_read(int argc, char **argv, struct config *out, struct err_msg *em) {
    *out = (struct config){0};
    enum err e = set_defaults(out, em);
    if (e == ERR_OK)
        e = read_options(out, argc, argv, true, em);
    if (e == ERR_OK && out->file != NULL)
        e = read_file(out, em);
    if (e == ERR_OK)
        e = read_options(out, argc, argv, false, em);
    if (e == ERR_OK && !device_name_is_good(out->device))
        e = err_set_param(em, ERR_USAGE, "device", "--device must be auto, cpu or cuda[:N], not %s",
                          out->device);
    if (e != ERR_OK)
        config_clear(out);
    return e;
}
