/* tok_pretok_split: what becomes of delimiters, by SplitDelimiterBehavior. */
#include "engine/text/tok_pretok_stage.h"

static enum err emit(struct splitter *s, size_t begin, size_t end) {
    if (begin == end)
        return ERR_OK;
    size_t zero = s->piece.zero > begin ? s->piece.zero - begin : 0, len = end - begin;
    struct piece p = {s->piece.s + begin, len, zero < len ? zero : len};
    return pretok_stage_run(s->run, s->next, p);
}

static enum err hold(struct splitter *s, size_t begin, size_t end, bool match) {
    enum err e = s->have ? emit(s, s->begin, s->end) : ERR_OK;
    s->have = true;
    s->begin = begin;
    s->end = end;
    s->match = match;
    return e;
}

enum err splitter_add(struct splitter *s, size_t begin, size_t end, bool match) {
    enum err e = ERR_OK;
    switch (s->behavior) {
    case SPLIT_REMOVED:
        return match ? ERR_OK : emit(s, begin, end);
    case SPLIT_ISOLATED:
        return emit(s, begin, end);
    case SPLIT_CONTIGUOUS:
        if (s->have && match == s->was_match)
            s->end = end;
        else
            e = hold(s, begin, end, match);
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        if (s->have && match && !s->was_match)
            s->end = end;
        else
            e = hold(s, begin, end, match);
        break;
    case SPLIT_MERGED_WITH_NEXT:
        if (s->have && s->match && !match) {
            s->have = false;
            e = emit(s, s->begin, end);
        } else if (!match) {
            e = hold(s, begin, end, match);
            s->have = false;
            e = e == ERR_OK ? emit(s, begin, end) : e;
        } else {
            e = hold(s, begin, end, match);
        }
        break;
    }
    s->was_match = match;
    return e;
}

enum err splitter_end(struct splitter *s) {
    bool have = s->have;
    s->have = false;
    return have ? emit(s, s->begin, s->end) : ERR_OK;
}
