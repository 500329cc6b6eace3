/* Products of whole numbers of 16 or 8 bits; integers.py says what they compute and calls them.
 *
 * A line is a row of the left factor, or of the matrix, which gives a column of a product; a segment of it, of 512 places, has a
 * scale of its own. A word is 32 bits: two of its places side by side, or four in 8 bits, which the processor multiplies at once by
 * another word. Lines of the matrix lie as panels, [word][32], those of the other factor as [word] each. A tile of 14 rows and 32
 * columns stays in 28 registers: it reads little for each product, and few instructions do anything but multiply: six in 34.
 *
 * Bytes without a sign are multiplied by bytes with one, so that 128 is added to those of panels. What that adds to a product, 128
 * times the sum of the other factor's, is taken away again: with that a line's sums begin, which stands behind its last word.
 *
 * Processors with AMX have registers of 16 lines by 16 words, which they multiply by 16 words by 16 columns at once: eight times as
 * many bytes in a cycle. Lines and panels lie so anyway. The sums are whole numbers, and so the same. */

#include "kernels.h"

#ifdef __AVX512VNNI__

/* instructions that multiply tiles of bytes (AMX), and a system that is asked for the registers as below */
#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__linux__)
#define IN_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* from the words of a line's segment to those of the next line's, where they have 16 bits */
#define SHORT_LINE (SEGMENT / 2)
/* rows of a tile */
#define ROWS 14
/* up to so many rows are shared by the threads, each of which takes some of the columns */
#define FEW 320
/* the norm of a segment in 16 bits, whose square fits into 32; the largest number of 8 bits */
#define NORM 32000.0f
#define LARGEST 127.0f
/* lines that are read at a time where they lie across memory; of many rows a thread takes as many, so that threads that are not
 * equally fast end together */
#define ACROSS 64
/* so many reads ahead, of lines across memory, a place is fetched */
#define AHEAD 16

static inline int64_t line_of(int64_t bytes) { return bytes ? BYTE_LINE : SHORT_LINE; }

/* What a whole number stands for, and what makes one of another number, where the sum of squares is given, or, of bytes, the largest.
 * What is next to nothing counts as that; what is no number, or infinite, makes a scale that is none. */
static inline float scale_of(float size, int bytes) {
    size = bytes ? size : sqrtf(size);
    return size <= NOTHING ? 0 : size / (bytes ? LARGEST : NORM);
}
static inline float factor_of(float size, int bytes) {
    size = bytes ? size : sqrtf(size);
    return size <= NOTHING ? 0 : (bytes ? LARGEST : NORM) / size;
}

/* Numbers of 32 bits, or of 16, as floats: up to 16 from a place on. Who says which is known when compiled. */
static inline const void *from_place(const void *numbers, int64_t place, int half) {
    return (const char *)numbers + place * (half ? sizeof(uint16_t) : sizeof(float));
}
static inline __m512 load(const void *numbers, int64_t place, __mmask16 within, int half) {
    const void *here = from_place(numbers, place, half);
    return half ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(within, here)) : _mm512_maskz_loadu_ps(within, here);
}

/* What is read next is on its way meanwhile: of lines that lie far apart the processor sees too little to fetch the next itself. */
static inline void fetch(const void *places, int64_t depth, int half) {
    for (int64_t k = 0; k < depth; k += half ? 32 : 16) _mm_prefetch(from_place(places, k, half), _MM_HINT_T0);
}

/* Gradients are rounded up or down by the flip of a coin, as it were, so that on average nothing is lost: rounded to the nearest, all
 * that is small beside its segment's largest would be. The coin is not flipped but read from here, at a place that depends on the
 * element: multiples of the golden ratio, less the nearest whole number, fall evenly between -0.5 and 0.5 (Knuth, The Art of Computer
 * Programming 3, 6.4: hashing by 2^32 over that ratio, which is 2654435769). */
#define COINS 1024
static float coins[COINS + SEGMENT + ACROSS];

static void lay_out_coins(void) {
    /* of numbers that wrap around at 1 */
    for (int64_t i = 0; i < COINS + SEGMENT + ACROSS; i++) coins[i] = (int32_t)((uint32_t)i * 2654435769u) * 0x1p-32f * 0.999999f;
}

/* those of line, or place, i of others that lie side by side */
static inline const float *coins_of(int64_t i) { return coins + i * 619 % COINS; }

static inline __m512i whole(__m512 values, __m512 factor, __m512 coin) {
    return _mm512_cvtps_epi32(_mm512_fmadd_ps(values, factor, coin));
}

/* up to 32 places of a line, from the first on, or 64 in bytes, as 16 words */
static inline __m512i narrowed(const void *places, int64_t first, int64_t depth, __m512 factor, const float *coin, int half,
                               int bytes) {
    __m512i found[4];
    for (int64_t n = 0; n < places_of(bytes); n++)
        found[n] = whole(load(places, first + 16 * n, first_of(depth - first - 16 * n), half), factor,
                         coin ? _mm512_loadu_ps(coin + first + 16 * n) : _mm512_setzero_ps());
    __m512i u = _mm512_packs_epi32(found[0], found[1]);
    if (!bytes) return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), u);
    u = _mm512_packs_epi16(u, _mm512_packs_epi32(found[2], found[3]));
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), u);
}

/* the larger of two sizes, as bits: no number is larger than all */
static inline __m512 larger(__m512 largest, __m512 x) {
    __m512i size = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(largest), size));
}

static inline __m512 sized(__m512 size, __m512 x, int bytes) { return bytes ? larger(size, x) : _mm512_fmadd_ps(x, x, size); }

/* the sum of squares, or, for bytes, the largest */
static inline float size_of(const void *places, int64_t depth, int half, int bytes) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int64_t k = 0; k < depth; k += 32) {
        even = sized(even, load(places, k, first_of(depth - k), half), bytes);
        odd = sized(odd, load(places, k + 16, first_of(depth - k - 16), half), bytes);
    }
    if (!bytes) return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    union { uint32_t bits; float value; } largest = {_mm512_reduce_max_epu32(_mm512_castps_si512(larger(even, odd)))};
    return largest.value;
}

/* sums of bytes with a sign, added to others */
static inline __m512i with_bytes(__m512i sums, __m512i bytes) { return _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), bytes); }

/* a segment whose places lie side by side */
static inline void along(const void *places, int64_t depth, const float *coin, int32_t *words, float *scale, int half, int bytes) {
    float size = size_of(places, depth, half, bytes);
    __m512 factor = _mm512_set1_ps(factor_of(size, bytes));
    __m512i sums = _mm512_setzero_si512();
    *scale = scale_of(size, bytes);
    for (int64_t k = 0; k < words_of(depth, bytes); k += 16) {
        __m512i found = narrowed(places, k * places_of(bytes), depth, factor, coin, half, bytes);
        _mm512_storeu_si512(words + k, found);
        if (bytes) sums = with_bytes(sums, found);
    }
    if (bytes) words[SEGMENT / 4] = -128 * _mm512_reduce_add_epi32(sums);
}

/* the same of up to 16 lines, `line` apart, as a part of a panel */
static inline void along_into_panel(const float *places, int64_t line, int64_t lines, int64_t depth, int32_t *panel, float *scales,
                                    int bytes) {
    __m512i found[16];
    float factors[16];
    for (int64_t i = 0; i < 16; i++) {
        if (i + 2 < lines) fetch(places + (i + 2) * line, depth, 0);
        float size = i < lines ? size_of(places + i * line, depth, 0, bytes) : 0;
        scales[i] = scale_of(size, bytes), factors[i] = factor_of(size, bytes);
    }
    for (int64_t k = 0; k < words_of(depth, bytes); k += 16) {
        for (int64_t i = 0; i < 16; i++) {
            found[i] = _mm512_setzero_si512();
            if (i < lines) found[i] = narrowed(places + i * line, k * places_of(bytes), depth, _mm512_set1_ps(factors[i]), NULL, 0, bytes);
            if (bytes) found[i] = _mm512_xor_si512(found[i], _mm512_set1_epi8(-128));
        }
        turn(found, panel + k * PANEL, PANEL);
    }
}

/* 16 words, of places from `place` on, of up to 16 lines that lie side by side, places `inner` apart; a vector for each word */
static inline void between(const void *places, int64_t inner, __mmask16 lines, int64_t place, int64_t depth, __m512 factor,
                           int64_t flip, __m512i *found, int half, int bytes) {
    for (int64_t j = 0; j < 16; j++, place += places_of(bytes)) {
        __m512i x[4];
        for (int64_t n = 0; n < places_of(bytes); n++)
            x[n] = whole(load(places, (place + n) * inner, place + n < depth ? lines : 0, half), factor,
                         flip < 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(coins_of(place + n) + flip));
        if (!bytes) {
            found[j] = _mm512_mask_blend_epi16(0xaaaaaaaa, x[0], _mm512_slli_epi32(x[1], 16));
            continue;
        }
        __m512i low = _mm512_mask_blend_epi8(0x2222222222222222, x[0], _mm512_slli_epi32(x[1], 8));
        __m512i high = _mm512_mask_blend_epi8(0x2222222222222222, x[2], _mm512_slli_epi32(x[3], 8));
        found[j] = _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
    }
}

/* A segment of up to ACROSS lines that lie side by side: as panels, `panel` apart, or, where that is 0, as lines. The sums of the
 * lines' places go to `sums` if that is not NULL. */
static inline void across(const void *places, int64_t inner, int64_t lines, int64_t depth, int64_t panel, int32_t *words,
                          float *scales, float *sums, int half, int bytes, int flip) {
    __m512 sizes[ACROSS / 16], totals[ACROSS / 16];
    __m512i excesses[ACROSS / 16];
    __mmask16 within[ACROSS / 16];
    float factors[ACROSS];
    for (int64_t n = 0; n < ACROSS / 16; n++) {
        sizes[n] = totals[n] = _mm512_setzero_ps(), within[n] = first_of(lines - 16 * n);
        excesses[n] = _mm512_setzero_si512();
    }
    for (int64_t k = 0; k < depth; k++)
        for (int64_t n = 0; n < ACROSS / 16; n++) {
            _mm_prefetch(from_place(places, (k + AHEAD) * inner + 16 * n, half), _MM_HINT_T0);
            __m512 x = load(places, k * inner + 16 * n, within[n], half);
            sizes[n] = sized(sizes[n], x, bytes);
            totals[n] = _mm512_add_ps(totals[n], x);
        }
    for (int64_t n = 0; n < ACROSS / 16; n++) {
        _mm512_storeu_ps(factors + 16 * n, sizes[n]);
        if (sums) _mm512_mask_storeu_ps(sums + 16 * n, within[n], totals[n]);
    }
    for (int64_t i = 0; i < (panel ? ACROSS : lines); i++)
        scales[i] = scale_of(factors[i], bytes), factors[i] = factor_of(factors[i], bytes);
    for (int64_t k = 0; k < words_of(depth, bytes); k += 16)
        for (int64_t n = 0; n < ACROSS / 16; n++) {
            __m512i found[16];
            int64_t here = least(16, lines - 16 * n), line = line_of(bytes);
            if (here <= 0 && !panel) break;
            between(from_place(places, 16 * n, half), inner, within[n], k * places_of(bytes), depth, _mm512_loadu_ps(factors + 16 * n),
                    flip ? 16 * n : -1, found, half, bytes);
            if (panel) {
                int32_t *into = words + n / 2 * panel + k * PANEL + n % 2 * 16;
                for (int64_t j = 0; j < 16; j++)
                    _mm512_storeu_si512(into + j * PANEL, bytes ? _mm512_xor_si512(found[j], _mm512_set1_epi8(-128)) : found[j]);
                continue;
            }
            for (int64_t j = 0; j < 16 && bytes; j++) excesses[n] = with_bytes(excesses[n], found[j]);
            if (here == 16) turn(found, words + 16 * n * line + k, line);
            else {
                int32_t turned[16 * 16];
                turn(found, turned, 16);
                for (int64_t i = 0; i < here; i++) memcpy(words + (16 * n + i) * line + k, turned + 16 * i, 64);
            }
        }
    if (!panel && bytes) {
        int32_t found[ACROSS];
        for (int64_t n = 0; n < ACROSS / 16; n++) _mm512_storeu_si512(found + 16 * n, excesses[n]);
        for (int64_t i = 0; i < lines; i++) words[i * BYTE_LINE + SEGMENT / 4] = -128 * found[i];
    }
}

/* A part of a matrix, whose element for column c of a product and place k is at c * column + k * inner, one of which is 1, as a
 * part of panels, where a column begins `words` and a scale `room` behind the last one; of one of the
 * kinds in kernels.h. */
typedef struct {
    const float *places;
    int64_t column, inner, columns, depth, words, room, kind;
    int32_t *panels;
    float *scales;
} Layout;

/* ACROSS columns from c on, of the segment that begins with place `first` */
static inline void lay_out_part_of(const Layout *of, int64_t c, int64_t first, int bytes) {
    const float *places = of->places + c * of->column + first * of->inner;
    int64_t length = least(SEGMENT, of->depth - first);
    int32_t *into = of->panels + c * of->words + first / places_of(bytes) * PANEL;
    float *scale = of->scales + first / SEGMENT * of->room + c;
    if (of->inner == 1)
        for (int64_t i = 0; i < ACROSS; i += 16)
            along_into_panel(places + i * of->column, of->column, of->columns - c - i, length,
                             into + i / PANEL * PANEL * of->words + i % PANEL, scale + i, bytes);
    else across(places, of->inner, least(ACROSS, of->columns - c), length, PANEL * of->words, into, scale, NULL, 0, bytes, 0);
}
static ALONE void lay_out_part(const Layout *of, int64_t c, int64_t first) {
    if (of->kind != SHORTS) lay_out_part_of(of, c, first, 1);
    else lay_out_part_of(of, c, first, 0);
}

/* A matrix, and its transpose if that is not NULL. Panels are [number][words][32], scales [segments][room], `room` = 32 number;
 * `number` is even. */
void lay_out_integers(const Layout *matrix, const Layout *transpose) {
    int64_t columns = matrix->columns, depth = matrix->depth;
    if (transpose && parts_of(columns, SEGMENT) * parts_of(depth, SEGMENT) >= 2 * omp_get_max_threads()) {
        /* as squares, each of which is still in the cache when it is laid out once more */
#pragma omp parallel for schedule(dynamic) collapse(2)
        for (int64_t c = 0; c < columns; c += SEGMENT)
            for (int64_t first = 0; first < depth; first += SEGMENT) {
                for (int64_t i = c; i < least(c + SEGMENT, columns); i += ACROSS) lay_out_part(matrix, i, first);
                for (int64_t i = first; i < least(first + SEGMENT, depth); i += ACROSS) lay_out_part(transpose, i, c);
            }
        return;
    }
    for (const Layout *each = matrix; each; each = each == matrix ? transpose : NULL) {
#pragma omp parallel for schedule(dynamic) collapse(2) if (columns * depth > SMALL)
        for (int64_t c = 0; c < each->columns; c += ACROSS)
            for (int64_t first = 0; first < each->depth; first += SEGMENT) lay_out_part(each, c, first);
    }
}

/* up to ACROSS rows of a segment, as lines; sums are made of rows that lie side by side */
static inline void shorten_of(const void *rows, int64_t row, int64_t inner, int64_t count, int64_t depth, int32_t *words, float *scales,
                              float *sums, int64_t place, int half, int bytes, int flip) {
    if (inner != 1) across(rows, inner, count, depth, 0, words, scales, sums, half, bytes, flip);
    else
        for (int64_t i = 0; i < count; i++) {
            if (i + 1 < count) fetch(from_place(rows, (i + 1) * row, half), depth, half);
            along(from_place(rows, i * row, half), depth, flip ? coins_of(place + i) : NULL, words + i * line_of(bytes), scales + i, half,
                  bytes);
        }
}
#define SHORTEN(name, half, bytes, flip) \
    static ALONE void name(const void *rows, int64_t row, int64_t inner, int64_t count, int64_t depth, int32_t *words, float *scales, \
                           float *sums, int64_t place) { \
        shorten_of(rows, row, inner, count, depth, words, scales, sums, place, half, bytes, flip); \
    }
SHORTEN(shorten_floats, 0, 0, 0)
SHORTEN(shorten_halves, 1, 0, 0)
SHORTEN(bytes_of_floats, 0, 1, 0)
SHORTEN(bytes_of_halves, 1, 1, 0)
SHORTEN(flipped_bytes_of_floats, 0, 1, 1)
SHORTEN(flipped_bytes_of_halves, 1, 1, 1)

typedef void (*Shorten)(const void *, int64_t, int64_t, int64_t, int64_t, int32_t *, float *, float *, int64_t);

static inline Shorten shortening(int64_t half, int64_t kind) {
    static const Shorten of_floats[] = {shorten_floats, bytes_of_floats, flipped_bytes_of_floats};
    static const Shorten of_halves[] = {shorten_halves, bytes_of_halves, flipped_bytes_of_halves};
    return half ? of_halves[kind] : of_floats[kind];
}

#define OF_1(X) X(0)
#define OF_2(X) OF_1(X) X(1)
#define OF_3(X) OF_2(X) X(2)
#define OF_4(X) OF_3(X) X(3)
#define OF_5(X) OF_4(X) X(4)
#define OF_6(X) OF_5(X) X(5)
#define OF_7(X) OF_6(X) X(6)
#define OF_8(X) OF_7(X) X(7)
#define OF_9(X) OF_8(X) X(8)
#define OF_10(X) OF_9(X) X(9)
#define OF_11(X) OF_10(X) X(10)
#define OF_12(X) OF_11(X) X(11)
#define OF_13(X) OF_12(X) X(12)
#define OF_14(X) OF_13(X) X(13)

/* Most words are read by the product itself: compilers would read them into a register first, another instruction. Of every
 * fourth row they do go by a register: 30 reads take longer than 28 products, 26 do not. */
#define MULTIPLY(name, sum, panel, word) __asm__(name " %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(panel), "m"(word))
#define MULTIPLY_HELD(name, sum, panel, words) __asm__(name " %2, %1, %0" : "+v"(sum) : "v"(panel), "v"(words))
#define ADD(r, name, line) \
    if (r % 4 == 1) { \
        __m512i words; \
        __asm__("vpbroadcastd %1, %0" : "=v"(words) : "m"(rows[r * line + k])); \
        MULTIPLY_HELD(name, a##r, a, words); \
        MULTIPLY_HELD(name, b##r, b, words); \
    } else { \
        MULTIPLY(name, a##r, a, rows[r * line + k]); \
        MULTIPLY(name, b##r, b, rows[r * line + k]); \
    }
#define BEGIN_shorts(r) __m512i a##r = _mm512_setzero_si512(), b##r = a##r;
#define BEGIN_bytes(r) __m512i a##r = _mm512_set1_epi32(rows[r * BYTE_LINE + SEGMENT / 4]), b##r = a##r;
#define ADD_shorts(r) ADD(r, "vpdpwssd", SHORT_LINE)
#define ADD_bytes(r) ADD(r, "vpdpbusd", BYTE_LINE)
#define PUT(r, n, sum) { \
    float *to = into + r * stride + n; \
    __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(row_scales[r])); \
    _mm512_storeu_ps(to, _mm512_fmadd_ps(value, _mm512_loadu_ps(scales + n), more ? _mm512_loadu_ps(to) : _mm512_setzero_ps())); }
/* what is written to is on its way meanwhile */
#define FETCH(r) __builtin_prefetch(into + r * stride, 1, 3), __builtin_prefetch(into + r * stride + 16, 1, 3);
#define STORE(r) PUT(r, 0, a##r) PUT(r, 16, b##r)

/* `into` [number, 32] = rows x panel, plus what is there if `more`; four tiles bring the panel at `next` to the second cache, of
 * which each is given its quarter */
#define TILE(kind, number) \
    static ALONE void kind##_##number(const int32_t *rows, const float *row_scales, const int32_t *panel, const float *scales, \
                                      int64_t length, int more, float *into, int64_t stride, const int32_t *next) { \
        OF_##number(BEGIN_##kind) OF_##number(FETCH) \
        for (int64_t k = 0; k < length;) { \
            _mm_prefetch((const char *)(next + k * PANEL / 4), _MM_HINT_T1); \
            _mm_prefetch((const char *)(next + k * PANEL / 4 + 16), _MM_HINT_T1); \
            _Pragma("GCC unroll 4") for (int u = 0; u < 4; u++, k++) { \
                __m512i a = _mm512_loadu_si512(panel + k * PANEL), b = _mm512_loadu_si512(panel + k * PANEL + 16); \
                OF_##number(ADD_##kind) \
            } \
        } \
        OF_##number(STORE) \
    }
#define TILES(kind) \
    TILE(kind, 1) TILE(kind, 2) TILE(kind, 3) TILE(kind, 4) TILE(kind, 5) TILE(kind, 6) TILE(kind, 7) TILE(kind, 8) TILE(kind, 9) \
    TILE(kind, 10) TILE(kind, 11) TILE(kind, 12) TILE(kind, 13) TILE(kind, 14) \
    static const Tile kind##_tiles[ROWS + 1] = {NULL,     kind##_1, kind##_2,  kind##_3,  kind##_4,  kind##_5,  kind##_6, kind##_7, \
                                                kind##_8, kind##_9, kind##_10, kind##_11, kind##_12, kind##_13, kind##_14};
typedef void (*Tile)(const int32_t *, const float *, const int32_t *, const float *, int64_t, int, float *, int64_t, const int32_t *);
TILES(shorts)
TILES(bytes)

#ifdef IN_TILES

/* whether this process may use the registers */
static int64_t has_tiles;

/* ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA, which is refused too where the processor has none */
static void ask_for_tiles(void) { has_tiles = syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* what each thread does before it multiplies in tiles, and afterwards: all have 16 rows of 64 bytes */
void begin_tiles(void) {
    static const struct { uint8_t palette, start, reserved[14]; uint16_t widths[16]; uint8_t heights[16]; } shapes = {
        .palette = 1, .widths = {64, 64, 64, 64, 64, 64, 64, 64}, .heights = {16, 16, 16, 16, 16, 16, 16, 16}};
    if (has_tiles) _tile_loadconfig(&shapes);
}
void end_tiles(void) {
    if (has_tiles) _tile_release();
}

/* As a tile of bytes, of up to 32 rows and `left` columns. What lies behind the last row is multiplied too, to no effect. */
static ALONE void in_tiles(const int32_t *rows, const float *row_scales, int64_t height, const int32_t *panel, const float *scales,
                           int64_t length, int more, float *into, int64_t stride, int64_t left) {
    int32_t sums[32 * PANEL] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < length; k += 16) {
        _tile_loadd(4, rows + k, BYTE_LINE * 4);
        _tile_loadd(6, panel + k * PANEL, PANEL * 4);
        _tile_loadd(7, panel + k * PANEL + 16, PANEL * 4);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        if (height <= 16) continue;
        _tile_loadd(5, rows + 16 * BYTE_LINE + k, BYTE_LINE * 4);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    _tile_stored(0, sums, PANEL * 4);
    _tile_stored(1, sums + 16, PANEL * 4);
    if (height > 16) {
        _tile_stored(2, sums + 16 * PANEL, PANEL * 4);
        _tile_stored(3, sums + 16 * PANEL + 16, PANEL * 4);
    }
    __mmask16 low = first_of(left), high = first_of(left - 16);
    __m512 a = _mm512_loadu_ps(scales), b = _mm512_loadu_ps(scales + 16);
    for (int64_t r = 0; r < height; r++) {
        float *to = into + r * stride;
        __m512i begin = _mm512_set1_epi32(rows[r * BYTE_LINE + SEGMENT / 4]);
        __m512 scale = _mm512_set1_ps(row_scales[r]);
        __m512 u = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(sums + r * PANEL), begin)), scale);
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(sums + r * PANEL + 16), begin)), scale);
        __m512 x = more ? _mm512_maskz_loadu_ps(low, to) : _mm512_setzero_ps();
        __m512 y = more ? _mm512_maskz_loadu_ps(high, to + 16) : _mm512_setzero_ps();
        _mm512_mask_storeu_ps(to, low, _mm512_fmadd_ps(u, a, x));
        _mm512_mask_storeu_ps(to + 16, high, _mm512_fmadd_ps(v, b, y));
    }
}

#else

enum { has_tiles = 0 };
static void ask_for_tiles(void) {}
void begin_tiles(void) {}
void end_tiles(void) {}

#endif

/* to be called once, where the processor is the one that all this is for */
void prepare_integers(void) { lay_out_coins(), ask_for_tiles(); }

int64_t multiplies_in_tiles(void) { return has_tiles; }

/* whether one of a panel's scales is not 0 */
static inline int any_of(const float *scales) {
    __m512 zero = _mm512_setzero_ps();
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(scales), zero, _CMP_NEQ_UQ) ||
           _mm512_cmp_ps_mask(_mm512_loadu_ps(scales + 16), zero, _CMP_NEQ_UQ);
}

/* Rows of a segment, as lines with their scales, times a panel's, `length` words of each: `into` has `stride` columns to a row, of which
 * `left` or 32 are the panel's. With `more` they are added to what is there. Where there are no
 * tiles, `next`, which is met after that, is fetched. */
static ALONE void multiply_lines(const int32_t *rows, const float *row_scales, int64_t height, const int32_t *panel,
                                 const float *scales, int64_t length, int more, float *into, int64_t stride, int64_t left,
                                 const int32_t *next, int bytes) {
    int64_t line = line_of(bytes), tiles = parts_of(height, ROWS);
    if (!any_of(scales)) {
        /* nothing but zeros, as a GRU's weights have for what inputs, or the state, give nothing to */
        for (int64_t r = 0; r < height && !more; r++) memset(into + r * stride, 0, least(PANEL, left) * sizeof(float));
        return;
    }
#ifdef IN_TILES
    if (bytes && has_tiles) {
        for (int64_t r = 0; r < height; r += 32)
            in_tiles(rows + r * line, row_scales + r, least(32, height - r), panel, scales, length, more, into + r * stride, stride, left);
        return;
    }
#endif
    for (int64_t t = 0; t < tiles; t++) {
        /* of about as many rows each */
        int64_t from = height * t / tiles, here = height * (t + 1) / tiles - from;
        float *to = into + from * stride;
        const int32_t *part = next + t % 4 * PANEL / 4 * length;
        Tile tile = (bytes ? bytes_tiles : shorts_tiles)[here];
        if (left >= PANEL) {
            tile(rows + from * line, row_scales + from, panel, scales, length, more, to, stride, part);
            continue;
        }
        /* the last panel's columns that are none of the product's */
        float beyond[ROWS * PANEL];
        for (int64_t r = 0; r < here && more; r++) memcpy(beyond + r * PANEL, to + r * stride, left * sizeof(float));
        tile(rows + from * line, row_scales + from, panel, scales, length, more, beyond, PANEL, part);
        for (int64_t r = 0; r < here; r++) memcpy(to + r * stride, beyond + r * PANEL, left * sizeof(float));
    }
}

void lines_of_bytes(const float *rows, int64_t row, int64_t count, int64_t depth, int32_t *lines, float *scales) {
    bytes_of_floats(rows, row, 1, count, depth, lines, scales, NULL, 0);
}

void multiply_bytes(const int32_t *rows, const float *row_scales, int64_t height, const int32_t *panel, const float *scales,
                    int64_t length, int64_t more, float *into, int64_t stride, int64_t left, const int32_t *next) {
    multiply_lines(rows, row_scales, height, panel, scales, length, more, into, stride, left, next, 1);
}

/* rows top .. top + height of a segment from place `first` on, with their scales, times panel p; the next one is `after` behind */
static void multiply(const IntegerProduct *of, const int32_t *rows, const float *row_scales, int64_t top, int64_t height,
                     int64_t first, int64_t p, int64_t after) {
    int64_t columns = of->by.columns, depth = of->by.depth, room = parts_of(columns, ACROSS) * ACROSS;
    int64_t bytes = of->by.kind != SHORTS, length = words_of(least(SEGMENT, depth - first), bytes);
    const int32_t *panel = (const int32_t *)of->by.panels + (p * words_of(depth, bytes) + first / places_of(bytes)) * PANEL;
    const float *scales = of->by.scales + first / SEGMENT * room + p * PANEL;
    multiply_lines(rows, row_scales, height, panel, scales, length, first > 0 || of->more, of->results + top * columns + p * PANEL,
                   columns, columns - p * PANEL, panel + after, bytes);
}

/* Results [count, columns] of each product = rows [count, depth] x panels; all matrices are of one depth and kind. An element of the
 * rows is at i * row + k * inner, one of which is 1; where that is `row`, the sums of the segments of rows go to `sums` [segments, count]
 * if that is not NULL. Who is done with its part takes another: cores that others use too are not equally fast. */
void products_of_integers(const void *rows, int64_t half, int64_t row, int64_t inner, int64_t count,
                          const IntegerProduct *products, int64_t number, float *sums) {
    int64_t depth = products->by.depth, bytes = products->by.kind != SHORTS, line = line_of(bytes);
    int64_t words = words_of(depth, bytes), part = SEGMENT / places_of(bytes);
    Shorten shorten = shortening(half, products->by.kind);
    int64_t segments = parts_of(depth, SEGMENT), room = parts_of(count, ACROSS) * ACROSS, panels = 0, columns = 0;
    for (int64_t n = 0; n < number; n++) panels += parts_of(products[n].by.columns, PANEL), columns += products[n].by.columns;
    int32_t *shared = NULL;
    float *shared_scales = NULL;
    int64_t *taken = NULL;
    if (count <= FEW) {
        taken = calloc(omp_get_max_threads(), sizeof(int64_t));
        shared = aligned_alloc(64, segments * room * line * sizeof(int32_t));
        shared_scales = malloc(segments * room * sizeof(float));
    }
#pragma omp parallel if (count * depth * columns > 64 * SMALL)
    {
        begin_tiles();
        if (count <= FEW) {
            /* a thread takes columns */
            int64_t step = inner == 1 ? 8 : ACROSS;
#pragma omp for schedule(static) collapse(2)
            for (int64_t s = 0; s < segments; s++)
                for (int64_t i = 0; i < count; i += step)
                    shorten(from_place(rows, i * row + s * SEGMENT * inner, half), row, inner, least(step, count - i),
                            least(SEGMENT, depth - s * SEGMENT),
                            shared + (s * room + i) * line, shared_scales + s * room + i, sums ? sums + s * count + i : NULL, i);
            /* Two threads begin at either end of some panels and go on until they meet: each has the same ones again at the next
             * step, or nearly so, in its own cache, and the faster one takes more. */
            int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads(), first = thread / 2 * 2;
            int64_t begin = panels * first / threads, end = panels * least(first + 2, threads) / threads, own = 0;
            for (; __atomic_fetch_add(taken + first, 1, __ATOMIC_RELAXED) < end - begin; own++) {
                int64_t p = thread == first ? begin + own : end - 1 - own, n = 0;
                while (p >= parts_of(products[n].by.columns, PANEL)) p -= parts_of(products[n++].by.columns, PANEL);
                for (int64_t s = 0; s < segments; s++) {
                    /* a panel's segments lie one after the other, as the panels do */
                    int64_t back = thread > first && s + 1 == segments, after = back ? -(words + s * part) : part;
                    multiply(products + n, shared + s * room * line, shared_scales + s * room, 0, count, s * SEGMENT, p,
                             after * PANEL);
                }
            }
        } else {
            /* a thread takes rows */
            int32_t *lines = aligned_alloc(64, ACROSS * line * sizeof(int32_t));
            float row_scales[ACROSS];
#pragma omp for schedule(dynamic)
            for (int64_t top = 0; top < count; top += ACROSS) {
                int64_t height = least(ACROSS, count - top);
                for (int64_t first = 0; first < depth; first += SEGMENT) {
                    shorten(from_place(rows, top * row + first * inner, half), row, inner, height, least(SEGMENT, depth - first), lines,
                            row_scales,
                            sums ? sums + first / SEGMENT * count + top : NULL, top);
                    for (int64_t n = 0; n < number; n++)
                        for (int64_t p = 0; p < parts_of(products[n].by.columns, PANEL); p++)
                            multiply(products + n, lines, row_scales, top, height, first, p, words * PANEL);
                }
            }
            free(lines);
        }
        end_tiles();
    }
    free(shared), free(shared_scales), free(taken);
}

/* so many rows of logits at a time: whole tiles, and few enough for the second caches to keep what is made of them */
#ifdef IN_TILES
#define LOGITS 64
#else
#define LOGITS (5 * ROWS)
#endif

/* rows of logits without bias, as products of shortened rows; `largest`, 16 numbers a row, are those of the threads' columns with it */
static void note_largest(const float *logits, int64_t columns, const float *bias, int64_t height, int64_t p, float *largest) {
    int64_t first = p * PANEL;
    __mmask16 low = first_of(columns - first), high = first_of(columns - first - 16);
    __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 a = _mm512_maskz_loadu_ps(low, bias + first), b = _mm512_maskz_loadu_ps(high, bias + first + 16);
    for (int64_t i = 0; i < height; i++) {
        const float *here = logits + i * columns + first;
        __m512 u = _mm512_mask_add_ps(none, low, _mm512_maskz_loadu_ps(low, here), a);
        __m512 v = _mm512_mask_add_ps(none, high, _mm512_maskz_loadu_ps(high, here + 16), b);
        _mm512_storeu_ps(largest + 16 * i, _mm512_max_ps(_mm512_max_ps(u, v), _mm512_loadu_ps(largest + 16 * i)));
    }
}

/* e^(logit + bias - largest) in the place of a row's logits first .. last, and their sum; where their gradients go is on its way
 * meanwhile */
static float exponentiate(float *logits, const float *bias, int64_t first, int64_t last, float largest, const uint16_t *halves) {
    __m512 even = _mm512_setzero_ps(), odd = even, scale = _mm512_set1_ps(LOG2E), less = _mm512_set1_ps(largest);
    for (int64_t v = first; v < last; v += 32) {
        __mmask16 low = first_of(last - v), high = first_of(last - v - 16);
        if (halves) __builtin_prefetch(halves + v, 1, 2);
        __m512 x = _mm512_add_ps(_mm512_maskz_loadu_ps(low, logits + v), _mm512_maskz_loadu_ps(low, bias + v));
        __m512 y = _mm512_add_ps(_mm512_maskz_loadu_ps(high, logits + v + 16), _mm512_maskz_loadu_ps(high, bias + v + 16));
        x = powers(_mm512_mul_ps(_mm512_sub_ps(x, less), scale)), y = powers(_mm512_mul_ps(_mm512_sub_ps(y, less), scale));
        _mm512_mask_storeu_ps(logits + v, low, x), _mm512_mask_storeu_ps(logits + v + 16, high, y);
        even = _mm512_mask_add_ps(even, low, even, x), odd = _mm512_mask_add_ps(odd, high, odd, y);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

/* gradients of a row's logits first .. last, of which there are the exponentials; times `times` they go to `halves` */
static void differentiate(const float *exponentials, int64_t first, int64_t last, float factor, float spread, float times, float *of_bias,
                          uint16_t *halves) {
    __m512 by = _mm512_set1_ps(factor), less = _mm512_set1_ps(spread), scale = _mm512_set1_ps(times);
    for (int64_t v = first; v < last; v += 16) {
        __mmask16 within = first_of(last - v);
        __m512 gradient = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(within, exponentials + v), by, less);
        _mm512_mask_storeu_ps(of_bias + v, within, _mm512_add_ps(_mm512_maskz_loadu_ps(within, of_bias + v), gradient));
        __m256i half = _mm512_cvtps_ph(_mm512_mul_ps(gradient, scale), _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(halves + v, within, half);
    }
}

/* The loss of rows [count, depth], `row` apart, of a layer [columns, depth] that was laid out, as `layer` says. A thread makes logits of
 * some columns, and later goes through about the same ones again, which it then has in its own cache. Where there are `halves`
 * [count, columns], those of the gradients of logits times `times` go there, in 16 bits (IEEE 754), without the targets' own part, and
 * the sum of the gradients with it is added to of_bias. */
void cross_entropy_of_integers(const float *rows, int64_t row, int64_t count, const Matrix *layer,
                             const float *bias, const int64_t *targets, const uint8_t *real, float smoothing, float times, float *nll,
                             float *of_bias, uint16_t *halves) {
    int64_t columns = layer->columns, depth = layer->depth, bytes = layer->kind != SHORTS, line = line_of(bytes);
    int64_t words = words_of(depth, bytes), part = SEGMENT / places_of(bytes);
    Shorten shorten = shortening(0, layer->kind);
    int64_t segments = parts_of(depth, SEGMENT), number = parts_of(columns, PANEL), most = omp_get_max_threads();
    float *logits = aligned_alloc(64, parts_of(LOGITS * columns, 16) * 64), *row_scales = malloc(segments * LOGITS * sizeof(float));
    int32_t *lines = aligned_alloc(64, segments * LOGITS * line * sizeof(int32_t));
    float *largest = aligned_alloc(64, most * LOGITS * 64), *totals = malloc(most * LOGITS * sizeof(float));
    int64_t *taken = calloc(parts_of(count, LOGITS) * most, sizeof(int64_t));
    IntegerProduct product = {*layer, logits, 0};
#pragma omp parallel
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t from = number * thread / threads * PANEL, to = least(columns, number * (thread + 1) / threads * PANEL);
        float *own = largest + thread * LOGITS * 16, *total = totals + thread * LOGITS, tops[LOGITS], chosen[LOGITS];
        begin_tiles();
        for (int64_t top = 0; top < count; top += LOGITS) {
            int64_t height = least(LOGITS, count - top);
#pragma omp for schedule(static) collapse(2)
            for (int64_t s = 0; s < segments; s++)
                for (int64_t i = 0; i < height; i += 5)
                    shorten(rows + (top + i) * row + s * SEGMENT, row, 1, least(5, height - i), least(SEGMENT, depth - s * SEGMENT),
                            lines + (s * LOGITS + i) * line, row_scales + s * LOGITS + i, NULL, top + i);
            for (int64_t i = 0; i < height * 16; i++) own[i] = -INFINITY;
            int64_t first = thread / 2 * 2, mine = 0;
            int64_t begin = number * first / threads, end = number * least(first + 2, threads) / threads;
            for (; __atomic_fetch_add(taken + top / LOGITS * most + first, 1, __ATOMIC_RELAXED) < end - begin; mine++) {
                int64_t p = thread == first ? begin + mine : end - 1 - mine;
                for (int64_t s = 0; s < segments; s++) {
                    int64_t back = thread > first && s + 1 == segments, after = back ? -(words + s * part) : part;
                    multiply(&product, lines + s * LOGITS * line, row_scales + s * LOGITS, 0, height, s * SEGMENT, p,
                             after * PANEL);
                }
                note_largest(logits, columns, bias, height, p, own);
            }
#pragma omp barrier
            for (int64_t i = 0; i < height; i++) {
                float *here = logits + i * columns;
                __m512 found = _mm512_loadu_ps(largest + 16 * i);
                for (int64_t n = 1; n < threads; n++) found = _mm512_max_ps(found, _mm512_loadu_ps(largest + (n * LOGITS + i) * 16));
                int64_t target = targets[top + i];
                tops[i] = _mm512_reduce_max_ps(found);
                if (target >= from && target < to) chosen[i] = here[target] + bias[target];
                total[i] = exponentiate(here, bias, from, to, tops[i], halves ? halves + (top + i) * columns : NULL);
            }
#pragma omp barrier
            for (int64_t i = 0; i < height; i++) {
                float sum = 0;
                for (int64_t n = 0; n < threads; n++) sum += totals[n * LOGITS + i];
                int64_t target = targets[top + i], counts = !real || real[top + i];
                if (!counts || target < 0 || target >= columns) {
                    nll[top + i] = counts ? NAN : 0;
                    if (halves) memset(halves + (top + i) * columns + from, 0, (to - from) * sizeof(uint16_t));
                    continue;
                }
                if (halves)
                    differentiate(logits + i * columns, from, to, 1 / sum, smoothing / columns, times, of_bias,
                                  halves + (top + i) * columns);
                if (target >= from && target < to) {
                    nll[top + i] = logf(sum) + tops[i] - chosen[i];
                    if (halves) of_bias[target] -= 1 - smoothing;
                }
            }
        }
        end_tiles();
    }
    free(logits), free(row_scales), free(lines), free(largest), free(totals), free(taken);
}

#endif
