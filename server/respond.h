/* respond: an api_response as bytes to the client.
 *
 * What:    bodies of every kind (JSON, text, files and tars with Range, event streams), the headers
 *          that every answer carries.
 * Owns:    takes what the response holds.
 * Threads: the loop thread only.
 * Errors:  a body that cannot be made becomes an error answer.
 */
#ifndef FFWD_SERVER_RESPOND_H
#define FFWD_SERVER_RESPOND_H

#include <microhttpd.h>
#include <stdbool.h>

#include "api/api.h"
#include "server/answers.h"
#include "server/request.h"

/* Queues resp (cleared afterwards) as the answer to r. close: the connection ends after it. */
enum MHD_Result respond_send(struct request *r, struct api_response *resp, bool close);
/* Queues what was answered before, as JSON. */
enum MHD_Result respond_again(struct request *r, struct answer *known);
/* Whether a browser page of this origin may read answers. */
bool respond_origin_allowed(const struct request *r, const char *origin);

/* ---- files (respond_file.c) ----------------------------------------------------------------- */

struct respond_body {
    struct MHD_Response *mhd; /* NULL: nothing could be made; resp says what to answer */
    int status;
    bool streams;           /* goes on for long */
    int64_t bytes;          /* of the body; what a stream sends is counted as it goes */
    char content_range[96]; /* "" if none */
};
/* API_BODY_FILE and API_BODY_TAR, with Range and validators. */
void respond_file(struct request *r, struct api_response *resp, struct respond_body *out);

/* One range of `Range: bytes=…` over size bytes. 0: none asked (or not understood, which means the
 * whole); 206: *first and *last are set; 416: none of it exists. */
int respond_parse_range(const char *range, int64_t size, int64_t *first, int64_t *last);
/* Content-Disposition of a download; the caller frees. */
char *respond_disposition(const char *filename);

#endif
