// SPDX-License-Identifier: MIT
// The patterns of pre-tokenisers: the table, compiling, splitting. PCRE2 allocates through us.
#include "text/tok_pre.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/tok_classes.h"

// --- the patterns ---
// clang-format off
// NOLINTBEGIN(bugprone-suspicious-missing-comma): long patterns are several literals
// Parts that many share: English contractions (any case), runs of white space (the last one before a word stays with
// it).
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s+(?!\\S)|\\s+"
#define LINES "\\s*[\\r\\n]+|" SPACES
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" SPACES
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
// Words that begin a new piece at a change from lower to upper case, with any contraction behind.
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail
#define PATTERNS(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}

PATTERNS(gpt2, GPT2);
PATTERNS(digits_gpt2, "\\p{N}", GPT2);
PATTERNS(classic, "[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]");
PATTERNS(falcon, "[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]");
PATTERNS(llama3, CONTRACTIONS "|" WORD "|\\p{N}{1,3}|" SIGNS "|" LINES);
PATTERNS(qwen2, CONTRACTIONS "|" WORD "|\\p{N}|" SIGNS "|" LINES);
PATTERNS(qwen35,
         CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES);
PATTERNS(minicpm5, "\\p{N}{1,3}", CONTRACTIONS "|" WORD "|\\p{N}+|" SIGNS "|" LINES);
PATTERNS(jais2, CONTRACTIONS "|" WORD "|\\p{N}{1,3}|" SIGNS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
                             "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|"
                             "\\s{1,2}(?!\\S)|\\s{1}");
PATTERNS(bailing, "'(?i:[sdmt]|ll|ve|re)|" WORD "|\\p{N}|" SIGNS "|\\s*[\\r\\n]|" SPACES);
PATTERNS(seed_coder, CONTRACTIONS "|" WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES);
PATTERNS(exaone_moe, CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
                                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES);
// Letters that have a canonical equivalent are escaped: normalising this file would turn them into others.
// (?<!\s): the run is tried from its first character only; without it a run that is not at the end costs its square
PATTERNS(deepseek_llm, "[\\r\\n]",
         "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
         "Ὀ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯ"
         "ꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
         "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", "(?<!\\s)\\s+$", "[一-龥ࠀ-一가-\ud7ff]+", "\\p{N}+");
PATTERNS(deepseek_coder, "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", "\\p{N}");
PATTERNS(deepseek_v3, "\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
         "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
         " ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES);
PATTERNS(youtu,
         "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\u303f︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",
         CASED(CONTRACTIONS "?") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES);
PATTERNS(tekken, CASED("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES);
PATTERNS(gpt4o, CASED(CONTRACTIONS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES);
PATTERNS(bloom, " ?[^(\\s|.,!?…。，、।۔،)]+");
PATTERNS(viking, " ?[^(\\s|.,!?…。，、।۔،)]+", "\\p{N}");
PATTERNS(chameleon, "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
         "[\\p{P}!-/:-@\\[-`{-~]", GPT2);

// NOLINTEND(bugprone-suspicious-missing-comma)
// clang-format on

static const struct fm__pre_entry entries[] = {
#define X(name, set, flags) {name, set, flags},
#include "text/tok_pre.def"
#undef X
};

const struct fm__pre_entry *fm__pre_at(size_t i)
{
    return i < sizeof entries / sizeof *entries ? &entries[i] : NULL;
}

const struct fm__pre_entry *fm__pre_find(struct fm_str name)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (strlen(entries[i].name) == name.n && !memcmp(entries[i].name, name.p, name.n)) return &entries[i];
    return NULL;
}

// --- compiling ---

struct fm__pre {
    pcre2_general_context *memory; // our allocator
    pcre2_code *code[FM__PRE_PATTERNS_MAX];
    int n_patterns;
    struct fm__classes classes;
};

static void *pcre_malloc(size_t n, void *user)
{
    (void)user;
    return fm__malloc(n);
}

static void pcre_free(void *p, void *user)
{
    (void)user;
    fm__free(p);
}

static fm_status compile(struct fm__pre *pre, const char *pattern, int *i_class, struct fm_error *err)
{
    char *text = NULL;
    FM_TRY(fm__classes_rewrite(&pre->classes, pattern, i_class, &text, err));
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(pre->memory);
    // in ECMAScript, for which the patterns were written, $ is the very end
    pcre2_code *compiled =
        context ? pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_DOLLAR_ENDONLY, &code, &at, context)
                : NULL;
    pcre2_compile_context_free(context);
    fm__free(text);
    if (!context || code == PCRE2_ERROR_NOMEMORY || (!compiled && code == 121)) // 121: PCRE2's own "no memory"
        return fm__fail(err, FM_E_NOMEM, "tokenizer pattern \"%.40s\": out of memory", pattern);
    if (!compiled)
        return fm__fail(err, FM_E_FORMAT, "tokenizer pattern \"%.40s\": PCRE2 error %d at %zu", pattern, code, at);
    pre->code[pre->n_patterns++] = compiled;
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); // where there is no JIT the interpreter does the same, slower
    return FM_OK;
}

static fm_status build(struct fm__pre *pre, const struct fm__pre_entry *entry, struct fm_error *err)
{
    pre->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (!pre->memory) return fm__fail(err, FM_E_NOMEM, "tokenizer patterns: out of memory");
    for (int i = 0; entry->patterns[i]; i++) FM_TRY(fm__classes_read(&pre->classes, entry->patterns[i], err));
    FM_TRY(fm__classes_build(&pre->classes, err));
    int i_class = 0;
    for (int i = 0; entry->patterns[i]; i++) FM_TRY(compile(pre, entry->patterns[i], &i_class, err));
    return FM_OK;
}

fm_status fm__pre_new(const struct fm__pre_entry *entry, struct fm__pre **out, struct fm_error *err)
{
    *out = NULL;
    struct fm__pre *pre = fm__calloc(1, sizeof *pre);
    if (!pre) return fm__fail_nomem(err, "tokenizer patterns", sizeof *pre);
    fm_status status = build(pre, entry, err);
    if (status != FM_OK) {
        fm__pre_free(pre);
        return status;
    }
    *out = pre;
    return FM_OK;
}

void fm__pre_free(struct fm__pre *pre)
{
    if (!pre) return;
    for (int i = 0; i < pre->n_patterns; i++) pcre2_code_free(pre->code[i]);
    pcre2_general_context_free(pre->memory);
    fm__classes_deinit(&pre->classes);
    fm__free(pre);
}

size_t fm__pre_classes(const struct fm__pre *pre, const char *p, size_t n, unsigned char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        if ((unsigned char)p[i] < 0x80) {
            out[n_out++] = (unsigned char)p[i++];
            continue;
        }
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode(p + i, n - i, &cp, &ok);
        out[n_out++] = fm__classes_symbol(&pre->classes, cp);
    }
    return n_out;
}

// --- running ---

struct fm__pre_run {
    const struct fm__pre *pre;
    pcre2_match_data *data[FM__PRE_PATTERNS_MAX];
    pcre2_match_context *limits;
};

fm_status fm__pre_run_new(const struct fm__pre *pre, struct fm__pre_run **out, struct fm_error *err)
{
    *out = NULL;
    struct fm__pre_run *run = fm__calloc(1, sizeof *run);
    if (!run) return fm__fail_nomem(err, "tokenizer patterns", sizeof *run);
    run->pre = pre;
    run->limits = pcre2_match_context_create(pre->memory);
    bool whole = run->limits != NULL;
    for (int i = 0; whole && i < pre->n_patterns; i++) {
        run->data[i] = pcre2_match_data_create(1, pre->memory);
        whole = run->data[i] != NULL;
    }
    if (!whole) {
        fm__pre_run_free(run);
        return fm__fail(err, FM_E_NOMEM, "tokenizer patterns: out of memory");
    }
    // For the interpreter, which serves where the JIT is absent or its stack too small. No pattern of ours needs a
    // thousandth of this; it bounds what a mistake in one could cost.
    pcre2_set_match_limit(run->limits, 100 * 1000 * 1000);
    pcre2_set_heap_limit(run->limits, 64 * 1024); // KiB
    *out = run;
    return FM_OK;
}

void fm__pre_run_free(struct fm__pre_run *run)
{
    if (!run) return;
    for (int i = 0; i < run->pre->n_patterns; i++) pcre2_match_data_free(run->data[i]);
    pcre2_match_context_free(run->limits);
    fm__free(run);
}

// Finds the next match of pattern `level` at or behind `from`. *begin = n where there is none.
static fm_status match(struct fm__pre_run *run, int level, const unsigned char *subject, size_t n, size_t bounds[2],
                       struct fm_error *err)
{
    const pcre2_code *code = run->pre->code[level];
    pcre2_match_data *data = run->data[level];
    int rc = pcre2_match(code, subject, n, bounds[1], PCRE2_NO_UTF_CHECK, data, run->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, subject, n, bounds[1], PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, run->limits);
    if (rc == PCRE2_ERROR_NOMATCH) {
        bounds[0] = bounds[1] = n;
        return FM_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) return fm__fail(err, FM_E_NOMEM, "tokenizer pattern %d: out of memory", level);
    if (rc < 0)
        return fm__fail(err, FM_E_LIMIT, "tokenizer pattern %d gives up at character %zu: PCRE2 error %d", level,
                        bounds[1], rc);
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(data);
    bounds[0] = ovector[0];
    bounds[1] = ovector[1] > ovector[0] ? ovector[1] : ovector[0] + 1; // never stand still
    return FM_OK;
}

// Each pattern cuts what the ones before have left whole: into its matches and what lies between them.
static fm_status split(struct fm__pre_run *run, int level, const unsigned char *subject, size_t n,
                       const struct fm__piece_sink *sink, struct fm_error *err)
{
    if (!n) return FM_OK;
    if (level == run->pre->n_patterns) return sink->piece(sink->user, n);
    size_t bounds[2] = {0, 0}, done = 0;
    while (done < n) {
        FM_TRY(match(run, level, subject, n, bounds, err));
        if (bounds[0] > done) FM_TRY(split(run, level + 1, subject + done, bounds[0] - done, sink, err));
        if (bounds[1] > bounds[0]) FM_TRY(split(run, level + 1, subject + bounds[0], bounds[1] - bounds[0], sink, err));
        done = bounds[1];
    }
    return FM_OK;
}

fm_status fm__pre_split(struct fm__pre_run *run, const unsigned char *subject, size_t n,
                        const struct fm__piece_sink *sink, struct fm_error *err)
{
    return split(run, 0, subject, n, sink, err);
}
