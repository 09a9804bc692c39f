/* limits: every bound on what comes from outside, in one list.
 *
 * What:    sizes and counts that the parsers and the server refuse to exceed.
 * Owns, Threads, Errors: constants only.
 */
#ifndef FFWD_BASE_LIMITS_H
#define FFWD_BASE_LIMITS_H

/* JSON */
#define LIMIT_JSON_BODY (1u << 20)        /* bytes of an HTTP request body */
#define LIMIT_JSON_ANSWER (16u << 20)     /* bytes of an answer: a full page and one object more */
#define LIMIT_MODELS_ANSWER (64u << 20)   /* bytes of the list of models, which has no pages */
#define LIMIT_JSON_DEPTH 64               /* brackets inside one another in such a body */
#define LIMIT_JSON_FILE (64u << 20)       /* bytes of config.json, tokenizer_config.json */
#define LIMIT_TOKENIZER_FILE (128u << 20) /* bytes of tokenizer.json */
#define LIMIT_PIPE_LINE (1u << 20)        /* bytes of one line between server and worker */
#define LIMIT_CONFIG_FILE (1u << 20)      /* bytes of a --config file */

/* data sets */
#define LIMIT_ROW_BYTES (4u << 20)    /* bytes of one JSONL line */
#define LIMIT_ROWS 10000000           /* lines of one data set */
#define LIMIT_ROW_TOKENS (1 << 20)    /* tokens of one row before truncation */
#define LIMIT_REPORTED_LINES 20       /* bad lines named in a job's error message */
#define LIMIT_FILE_BYTES (8ull << 30) /* default bound of an uploaded file */

/* model folders */
#define LIMIT_SAFETENSORS_HEADER 100000000u /* bytes, as the reference implementation */
#define LIMIT_TENSORS 65536                 /* tensors of one model */
#define LIMIT_TENSOR_RANK 8
#define LIMIT_TENSOR_NAME 512
#define LIMIT_SHARDS 4096
#define LIMIT_HIDDEN 65536 /* width of any layer */
#define LIMIT_LAYERS 1024
#define LIMIT_HEADS 1024
#define LIMIT_VOCAB (1 << 21)
#define LIMIT_POSITIONS (1 << 24)

/* dry runs */
#define LIMIT_DRY_RUNS 2                /* processes at once */
#define LIMIT_DRY_RUNS_WAITING 16       /* requests that wait for one, those running included */
#define LIMIT_DRY_RUN_BYTES (8ll << 20) /* of a larger file about so many bytes are tokenized */

/* training */
#define LIMIT_RANK 512
#define LIMIT_STEPS 10000000
#define LIMIT_EPOCHS 100
#define LIMIT_BATCH 1024
#define LIMIT_SEQ 1048576
#define LIMIT_THREADS 1024
#define LIMIT_DEVICE_SECONDS 120 /* that a GPU may take for what is enqueued at a time */

/* HTTP */
#define LIMIT_URL_BYTES 4096
#define LIMIT_HEADERS 100
#define LIMIT_FILENAME 255
#define LIMIT_UPLOAD_PARTS 10000 /* parts of one upload */
#define LIMIT_MIME_TYPE 255
#define LIMIT_WEBHOOKS 16 /* endpoints of a project */
#define LIMIT_WEBHOOK_URL 2048
#define LIMIT_WORK_THREADS 4        /* of libuv's, that read and join uploads at a time */
#define LIMIT_PAGE 10000            /* rows of one list page */
#define LIMIT_PAGE_BYTES (8u << 20) /* bytes of jobs or events after which a page ends */
#define LIMIT_JOB_TEXTS (64u << 20) /* bytes of the texts of ended jobs that are kept in memory */
#define LIMIT_METADATA_PAIRS 16
#define LIMIT_METADATA_KEY 64
#define LIMIT_METADATA_VALUE 512
#define LIMIT_SUFFIX 64
#define LIMIT_PRIORITY 100 /* from its negative */

#endif
