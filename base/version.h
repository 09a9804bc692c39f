/* version: of both programs.
 *
 * What:    what --version prints, and /healthz, /metrics and /openapi.json show.
 * Owns, Threads, Errors: a constant only.
 */
#ifndef FFWD_BASE_VERSION_H
#define FFWD_BASE_VERSION_H

#define FFWD_VERSION "0.1.0"

#endif
