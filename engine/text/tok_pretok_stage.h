/* tok_pretok_stage: one stage of a pre-tokenizer, and how delimiters are treated.
 *
 * What:    internal to tok_pretok*.c.
 * Owns:    a stage owns its pattern.
 * Threads: as tok_pretok.h.
 * Errors:  as tok_pretok.h.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_PRETOK_STAGE_H
#define FFWD_ENGINE_TEXT_TOK_PRETOK_STAGE_H

#include "engine/text/tok_pretok.h"

enum pretok_kind {
    PRETOK_SPLIT,        /* by a pattern */
    PRETOK_CLASS,        /* by a class of characters */
    PRETOK_CHAR,         /* by one character */
    PRETOK_WORDS,        /* \w+|[^\w\s]+ */
    PRETOK_FIXED,        /* n characters each */
    PRETOK_PREFIX_SPACE, /* ByteLevel's add_prefix_space */
    PRETOK_BYTELEVEL,    /* bytes to their stand-ins */
    PRETOK_METASPACE,    /* spaces to the replacement, and the prefix */
};

enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
};

enum prepend_scheme { PREPEND_FIRST, PREPEND_ALWAYS, PREPEND_NEVER };

struct pretok_stage {
    enum pretok_kind kind;
    enum split_behavior behavior; /* SPLIT, CLASS, CHAR */
    struct tok_pattern pattern;   /* SPLIT */
    bool invert;                  /* SPLIT */
    bool (*is_delimiter)(uint32_t cp);
    uint32_t character;         /* CHAR, METASPACE */
    size_t length;              /* FIXED: characters */
    enum prepend_scheme scheme; /* METASPACE */
};

/* Runs a piece through the stages from `stage` on. */
enum err pretok_stage_run(struct pretok_run *r, size_t stage, struct piece p) NODISCARD;

/* Turns a sequence of stretches that cover a piece, each a delimiter or not, into pieces. */
struct splitter {
    struct pretok_run *run;
    size_t next; /* stage that gets the pieces */
    enum split_behavior behavior;
    struct piece piece;
    bool have, match, was_match; /* a stretch is held back; what it is; what the last one was */
    size_t begin, end;
};
enum err splitter_add(struct splitter *s, size_t begin, size_t end, bool match) NODISCARD;
enum err splitter_end(struct splitter *s) NODISCARD;

#endif
