/* main of `ffwd-server`. */
#include <stdio.h>

int main(void) {
    puts("usage: ffwd-server --data DIR --models DIR[:DIR...] --listen ADDR:PORT");
    return 0;
}
