/* chat_known: SHA-256 of template texts, white space at the end left out. */
#include "engine/text/chat_known.h"

#include <string.h>

#include "base/sha256.h"

static const char *const known[] = {
    "55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", /* Qwen 2.5 */
    "793202280c0910ab26bc6eb57c8212c2417324c6d8c4efd0d10d59092ab3e3eb", /* Qwen 2 */
    "af9c0233881b083b52ff773580215222b5440ac3d0beeeca99b76329b048f8db", /* Qwen 1.5 */
    "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", /* Llama 3 */
    "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", /* Llama 3.1 */
    "e8d5b5a546d3f19df16a5320c614fab05bdc4edd50e850f1afd947b503ea41cf", /* Llama 2 */
    "f916f5d32a9a6ce339140907a749a9132351a77af89e57a9036d56bd79aa4b8b", /* Llama 2, not stripped */
    "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495", /* Mistral 0.1, first */
    "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7", /* Mistral 0.1, 0.2 */
    "98f66244deff91467cffdb0b426f04d1c4a2f76f17044db4e5965727393fcc2d", /* Mistral, system */
    "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", /* SmolLM 2 */
    "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", /* SmolLM, ChatML */
    "66291cf0045c2425a3a667cf3cbb7af2b11f09e025c02f97245323ab79119362", /* Zephyr, TinyLlama */
};

bool chat_text_known(const char *text) {
    struct sha256 h;
    char hex[SHA256_HEX_SIZE];
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
        n--;
    sha256_init(&h);
    sha256_add(&h, text, n);
    sha256_hex(&h, hex);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(hex, known[i]) == 0)
            return true;
    return false;
}
