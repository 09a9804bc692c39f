/* admin: administration commands, asked of the running server through a socket in DATA.
 *
 * What:    DATA/admin.sock (0600): one JSON object a line, one answer a line, one connection each:
 *          {"command":"keys.create","name","project"}, {"command":"keys.list"},
 *          {"command":"keys.revoke","id"}, and webhooks.create|list|delete|rotate|test|delivery|
 *          deliveries|redeliver with "url", "project", "id", "state"; {"command":"backup"}, which
 *          leaves a copy of the database in DATA (STORE_BACKUP). Effect is immediate.
 * Owns:    the socket and its clients.
 * Threads: the loop thread only.
 * Errors:  answers {"error":{"code","message"}}.
 */
#ifndef FFWD_SERVER_ADMIN_H
#define FFWD_SERVER_ADMIN_H

#include <jansson.h>

#include "base/err.h"
#include "storage/store.h"

struct admin;
struct server;

#define ADMIN_LINE_MAX 65536
#define ADMIN_NAME_MAX 128 /* bytes of a name or a project */

/* Runs one command; new reference, never NULL. */
json_t *admin_execute(struct store *store, const json_t *request);
/* Those about webhooks, named without "webhooks."; NULL if there is no such command. */
json_t *admin_webhooks(struct store *store, const char *command, const json_t *request);
/* Path of the socket, short enough for a socket address: through the open folder dir_fd. */
void admin_socket_path(int dir_fd, char out[64]);

enum err admin_open(struct server *s, struct admin **out, struct err_msg *em) NODISCARD;
void admin_close(struct admin *a);
/* After the loop has ended. */
void admin_free(struct admin *a);

#endif
