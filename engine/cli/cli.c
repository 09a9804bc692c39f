/* cli: what the commands share. */
#include "engine/cli/cli.h"

#include <stdio.h>

int cli_report(const char *command, enum err e, const struct err_msg *em) {
    if (e != ERR_OK)
        fprintf(stderr, "ffwd %s: %s\n", command, em->text[0] != '\0' ? em->text : err_name(e));
    return err_exit_code(e);
}
