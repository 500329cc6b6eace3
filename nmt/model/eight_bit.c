/* Products with a matrix of 8 bits an element, for search; eight_bit.py says what each computes and calls them.
 *
 * Of a matrix [columns, inner] a panel holds 64 rows, which give 64 columns of a product, as [inner / 4][64][4] bytes: each
 * element over its row's scale, plus 128, since the processor multiplies bytes without a sign by bytes with one. What that
 * adds to a product, 128 times the sum of the other factor, is taken away again. Beyond the last column scales are 0;
 * `inner` is a multiple of 4, what lies beyond a row's last element 0. */

#include "kernels.h"

#ifdef __AVX512VNNI__

#include <immintrin.h>

/* rows of float32, given as parts that stand side by side; the widths of all but the last are multiples of 4 */
#define PARTS 4
typedef struct {
    int64_t count;
    struct { const float *values; int64_t stride, width; } terms[PARTS];
} Parts;

/* the same in 8 bits: bytes [room, inner], and of each part of each row its scale, and what the 128 adds, [parts, room]; there
 * is room for whole tiles of rows */
typedef struct {
    int64_t count, room, inner, parts, ends[PARTS];
    int8_t *bytes;
    float *scales;
    int32_t *excesses;
} Rows;

#define PANEL BLOCK
#define TILE 6
/* so many rows at a time meet a matrix, panel by panel, of which the cache holds a few */
#define CHUNK (32 * TILE)

int64_t multiplies_integers(void) { return 1; }

/* What turns a row's numbers into bytes, and what one of these stands for. `odd` is the sum of the numbers times 0: not a number
 * where one of them is none, or infinite, and then nor is the scale. What is next to nothing counts as that. */
static inline float factor_of(float largest, float odd) { return odd == 0 && largest > NOTHING ? 127 / largest : 0; }
static inline float scale_of(float largest, float odd) { return odd != 0 ? NAN : largest > NOTHING ? largest / 127 : 0; }

/* A matrix [columns, inner] of floats, whose rows are `stride` apart, as panels with their scales. Of gates, i, f, o, g of all
 * units one after the other, a panel takes those of 16 units. `room` is the width rounded up to a multiple of 4. */
void lay_out_bytes(const float *matrix, int64_t stride, int64_t columns, int64_t inner, int64_t room, int64_t of_gates,
                   uint8_t *panels, float *scales) {
    int64_t number = (columns + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) collapse(2)
    for (int64_t p = 0; p < number; p++)
        for (int64_t part = 0; part < 4; part++) {
            const float *rows[16];
            float factors[16];
            for (int64_t i = 0; i < 16; i++) {
                int64_t column = of_gates ? part * (columns / 4) + p * 16 + i : p * PANEL + part * 16 + i;
                float largest = 0, odd = 0;
                rows[i] = column < columns ? matrix + column * stride : NULL;
                if (rows[i]) {
                    const float *row = rows[i];
#pragma omp simd reduction(max : largest) reduction(+ : odd)
                    for (int64_t k = 0; k < inner; k++) {
                        largest = fabsf(row[k]) > largest ? fabsf(row[k]) : largest;
                        odd += row[k] * 0;
                    }
                }
                factors[i] = factor_of(largest, odd), scales[p * PANEL + part * 16 + i] = scale_of(largest, odd);
            }
            /* 16 quads of 16 rows at a time */
            for (int64_t k = 0; k < room; k += 64) {
                __m512i found[16];
                int32_t turned[16 * 16], *into = (int32_t *)(panels + p * PANEL * room + k * PANEL) + part * 16;
                for (int64_t i = 0; i < 16; i++) {
                    __m128i bytes[4];
                    for (int64_t n = 0; n < 4; n++) {
                        int64_t left = factors[i] ? inner - k - 16 * n : 0;
                        __mmask16 within = first_of(left);
                        __m512 values = _mm512_maskz_loadu_ps(within, rows[i] + k + 16 * n);
                        bytes[n] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(values, _mm512_set1_ps(factors[i]))));
                    }
                    found[i] = _mm512_xor_si512(_mm512_loadu_si512(bytes), _mm512_set1_epi8(-128));
                }
                turn(found, turned, 16);
                for (int64_t j = 0; j < 16 && k + 4 * j < room; j++) memcpy(into + j * PANEL, turned + 16 * j, 64);
            }
        }
}

static Rows new_rows(const Parts *parts, int64_t count, int64_t inner) {
    int64_t room = (count + TILE - 1) / TILE * TILE;
    Rows rows = {.count = count, .room = room, .inner = inner, .parts = parts->count};
    int64_t end = 0;
    for (int64_t n = 0; n < parts->count; n++) rows.ends[n] = end += parts->terms[n].width;
    rows.ends[parts->count - 1] = inner;
    rows.bytes = malloc(room * inner);
    rows.scales = malloc(room * parts->count * sizeof(float));
    rows.excesses = malloc(room * parts->count * sizeof(int32_t));
    return rows;
}

static void free_rows(Rows *rows) { free(rows->bytes), free(rows->scales), free(rows->excesses); }

static void quantize_part(const float *values, int64_t width, int64_t room, int8_t *bytes, float *scale, int32_t *excess) {
    float largest = 0, odd = 0;
#pragma omp simd reduction(max : largest) reduction(+ : odd)
    for (int64_t j = 0; j < width; j++) {
        float size = fabsf(values[j]);
        largest = size > largest ? size : largest;
        odd += values[j] * 0;
    }
    float factor = factor_of(largest, odd);
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < width; j++) {
        int32_t whole = factor ? (int32_t)__builtin_rintf(values[j] * factor) : 0;
        bytes[j] = (int8_t)whole;
        sum += whole;
    }
    for (int64_t j = width; j < room; j++) bytes[j] = 0;
    *scale = scale_of(largest, odd);
    *excess = 128 * sum;
}

/* called by every thread of a team */
static void quantize(const Parts *parts, Rows *rows) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rows->count; i++)
        for (int64_t n = 0, start = 0; n < rows->parts; start = rows->ends[n++])
            quantize_part(parts->terms[n].values + i * parts->terms[n].stride, parts->terms[n].width,
                          rows->ends[n] - start, rows->bytes + i * rows->inner + start, rows->scales + n * rows->room + i,
                          rows->excesses + n * rows->room + i);
}

/* one row's results, of 64 columns or fewer, in four vectors of sums */
typedef struct {
    int64_t part, stride, columns;
    const float *scales, *bias;
    float *results;
} Place;

static inline void finish(const Rows *rows, int64_t row, int64_t i, __m512i a, __m512i b, __m512i c, __m512i d, Place to) {
    __m512i sums[4] = {a, b, c, d}, excess = _mm512_set1_epi32(rows->excesses[to.part * rows->room + row + i]);
    __m512 scale = _mm512_set1_ps(rows->scales[to.part * rows->room + row + i]);
    float *result = to.results + i * to.stride;
    for (int64_t n = 0; n < 4; n++) {
        int64_t left = to.columns - 16 * n;
        __mmask16 within = first_of(left);
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[n], excess)), scale);
        __m512 added = to.part   ? _mm512_maskz_loadu_ps(within, result + 16 * n)
                       : to.bias ? _mm512_loadu_ps(to.bias + 16 * n)
                                 : _mm512_setzero_ps();
        _mm512_mask_storeu_ps(result + 16 * n, within, _mm512_fmadd_ps(value, _mm512_loadu_ps(to.scales + 16 * n), added));
    }
}

/* 24 sums in registers */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)

/* the first `count` of six rows times what a panel has from `start` to `end`; added to a bias, if there is one, or to the
 * results of the parts before */
static ALONE void tile(const Rows *rows, int64_t first, int64_t count, const uint8_t *panel, int64_t start, int64_t end,
                       Place to) {
    int64_t inner = rows->inner;
    const int8_t *bytes = rows->bytes + first * inner;
    /* in variables of their own: compilers leave arrays in memory when it suits them */
#define DECLARE(i) __m512i a##i = _mm512_setzero_si512(), b##i = a##i, c##i = a##i, d##i = a##i;
    EACH_ROW(DECLARE)
    for (int64_t k = start; k < end; k += 4) {
        const uint8_t *quads = panel + k * PANEL;
        __m512i w = _mm512_loadu_si512(quads), x = _mm512_loadu_si512(quads + 64), y = _mm512_loadu_si512(quads + 128),
                z = _mm512_loadu_si512(quads + 192), repeated;
        int32_t four;
#define ADD(i)                                                                                                         \
    memcpy(&four, bytes + i * inner + k, 4);                                                                           \
    repeated = _mm512_set1_epi32(four);                                                                                \
    a##i = _mm512_dpbusd_epi32(a##i, w, repeated), b##i = _mm512_dpbusd_epi32(b##i, x, repeated);                      \
    c##i = _mm512_dpbusd_epi32(c##i, y, repeated), d##i = _mm512_dpbusd_epi32(d##i, z, repeated);
        EACH_ROW(ADD)
    }
#define FINISH(i) if (i < count) finish(rows, first, i, a##i, b##i, c##i, d##i, to);
    EACH_ROW(FINISH)
}

/* so many rows at a time meet the columns of a panel for one part, which stay in the nearest cache for them */
#define GROUP (8 * TILE)

/* rows first .. last times a panel, plus a bias if there is one; `results` is where the first of them goes */
static void multiply(const Rows *rows, int64_t first, int64_t last, const uint8_t *panel, const float *scales,
                     const float *bias, float *results, int64_t stride, int64_t columns) {
    for (; first < last; first += GROUP, results += GROUP * stride) {
        int64_t after = first + GROUP < last ? first + GROUP : last;
        for (int64_t part = 0, start = 0; part < rows->parts; start = rows->ends[part++])
            for (int64_t i = first; i < after; i += TILE) {
                Place to = {part, stride, columns, scales, bias, results + (i - first) * stride};
                tile(rows, i, after - i, panel, start, rows->ends[part], to);
            }
    }
}

/* How many shares of the rows there are, and how large each is: no more than a cache holds beside all panels, and several
 * where panels are fewer than threads. A thread meets all panels with a share before the next one. */
static void share_out(int64_t count, int64_t panels, int64_t *shares, int64_t *share) {
    int64_t threads = omp_get_num_threads(), least = panels < threads ? (threads + panels - 1) / panels : 1;
    *shares = (count + CHUNK - 1) / CHUNK;
    *shares = *shares > least ? *shares : least;
    *share = ((count + *shares - 1) / *shares + TILE - 1) / TILE * TILE;
}

/* results [rows, columns] */
void product_of_bytes(const Parts *parts, int64_t count, const uint8_t *panels, const float *scales, int64_t inner,
                      int64_t columns, float *results) {
    Rows rows = new_rows(parts, count, inner);
    int64_t number = (columns + PANEL - 1) / PANEL;
#pragma omp parallel if (count * inner * columns > 64 * SMALL)
    {
        int64_t shares, share;
        share_out(count, number, &shares, &share);
        quantize(parts, &rows);
#pragma omp for schedule(static) collapse(2)
        for (int64_t s = 0; s < shares; s++)
            for (int64_t p = 0; p < number; p++) {
                int64_t first = s * share, last = first + share < count ? first + share : count;
                if (first < last)
                    multiply(&rows, first, last, panels + p * PANEL * inner, scales + p * PANEL, 0,
                             results + first * columns + p * PANEL, columns, columns - p * PANEL);
            }
    }
    free_rows(&rows);
}

/* e^(factor x), at most 2^60, so that two of them still have a finite product */
static inline __m512 exponentials(__m512 x, float factor) {
    return powers(_mm512_min_ps(_mm512_set1_ps(60.0f), _mm512_mul_ps(x, _mm512_set1_ps(factor * LOG2E))));
}

/* sigmoid(a) tanh(b) = (1 - e^-2b) / ((1 + e^-a) (1 + e^-2b)) */
static inline __m512 gated(__m512 a, __m512 b) {
    __m512 one = _mm512_set1_ps(1.0f), of_a = exponentials(a, -1);
    __m512 of_b = exponentials(b, -2);
    return _mm512_div_ps(_mm512_sub_ps(one, of_b), _mm512_mul_ps(_mm512_add_ps(one, of_a), _mm512_add_ps(one, of_b)));
}

/* one step of an LSTM: h', c' [rows, units] of c and of what the products give; a panel is the gates i, f, o, g of 16 units */
void lstm_of_bytes(const Parts *parts, int64_t count, const uint8_t *panels, const float *scales, const float *bias,
                   int64_t inner, int64_t units, const float *cells, float *hiddens, float *news) {
    Rows rows = new_rows(parts, count, inner);
    int64_t number = units / 16;
#pragma omp parallel if (count * inner * units > 16 * SMALL)
    {
        int64_t shares, share;
        share_out(count, number, &shares, &share);
        quantize(parts, &rows);
#pragma omp for schedule(static) collapse(2)
        for (int64_t s = 0; s < shares; s++)
            for (int64_t p = 0; p < number; p++) {
                int64_t last = (s + 1) * share < count ? (s + 1) * share : count;
                for (int64_t first = s * share; first < last; first += GROUP) {
                    float sums[GROUP * PANEL];
                    int64_t after = first + GROUP < last ? first + GROUP : last;
                    multiply(&rows, first, after, panels + p * PANEL * inner, scales + p * PANEL, bias + p * PANEL, sums,
                             PANEL, PANEL);
                    for (int64_t i = first; i < after; i++) {
                        const float *sum = sums + (i - first) * PANEL;
                        int64_t place = i * units + 16 * p;
                        __m512 kept = exponentials(_mm512_loadu_ps(sum + 16), -1);
                        kept = _mm512_div_ps(_mm512_loadu_ps(cells + place), _mm512_add_ps(_mm512_set1_ps(1.0f), kept));
                        __m512 new = _mm512_add_ps(kept, gated(_mm512_loadu_ps(sum), _mm512_loadu_ps(sum + 48)));
                        _mm512_storeu_ps(news + place, new);
                        _mm512_storeu_ps(hiddens + place, gated(_mm512_loadu_ps(sum + 32), new));
                    }
                }
            }
    }
    free_rows(&rows);
}

/* what a thread finds of a row in its part of the vocabulary */
typedef struct {
    /* sum of e^(z - origin), in 16 parts */
    __m512 sums;
    float origin;
    /* the best, falling, and their pieces; minus infinity where there are none yet */
    float *best;
    int64_t *pieces;
} Found;

static void insert(Found *found, int64_t count, float value, int64_t piece) {
    int64_t n = count - 1;
    for (; n > 0 && value > found->best[n - 1]; n--) found->best[n] = found->best[n - 1], found->pieces[n] = found->pieces[n - 1];
    found->best[n] = value, found->pieces[n] = piece;
}

/* Take note of 64 logits, those of the pieces from `first` on. Few of them are among the best, so that all are compared with
 * the last of these at once. What is added up stays small: the origin follows the largest. */
static inline void look(const float *logits, int64_t first, const int64_t *never, int64_t nevers, int64_t count, Found *found) {
    __m512 values[4], last = _mm512_set1_ps(found->best[count - 1]);
    uint64_t better = 0;
    for (int64_t n = 0; n < 4; n++) {
        values[n] = _mm512_loadu_ps(logits + 16 * n);
        better |= (uint64_t)_mm512_cmp_ps_mask(values[n], last, _CMP_GT_OQ) << 16 * n;
    }
    if (better) {
        __m512 above = _mm512_max_ps(_mm512_max_ps(values[0], values[1]), _mm512_max_ps(values[2], values[3]));
        float top = _mm512_reduce_max_ps(above);
        if (top > found->origin + 16) {
            found->sums = _mm512_mul_ps(found->sums, powers(_mm512_set1_ps((found->origin - top) * LOG2E)));
            found->origin = top;
        }
        for (; better; better &= better - 1) {
            int64_t place = __builtin_ctzll(better), piece = first + place, excluded = 0;
            for (int64_t n = 0; n < nevers; n++) excluded |= never[n] == piece;
            if (!excluded && logits[place] > found->best[count - 1]) insert(found, count, logits[place], piece);
        }
    }
    __m512 scale = _mm512_set1_ps(LOG2E), origin = _mm512_set1_ps(found->origin * LOG2E);
    for (int64_t n = 0; n < 4; n++)
        found->sums = _mm512_add_ps(found->sums, powers(_mm512_fmsub_ps(values[n], scale, origin)));
}

/* the `count` best of all threads' for a row; of equal ones that of the lower piece */
static void join(Found *const *found, int64_t threads, int64_t row, int64_t count, float *log_probs, int64_t *pieces) {
    int64_t places[threads];
    float origin = -INFINITY, total = 0;
    /* a thread without a part has found nothing */
    for (int64_t t = 0; t < threads; t++) {
        places[t] = found[t] ? 0 : count;
        origin = found[t] && found[t][row].origin > origin ? found[t][row].origin : origin;
    }
    for (int64_t t = 0; t < threads; t++)
        if (found[t]) total += _mm512_reduce_add_ps(found[t][row].sums) * exponential(found[t][row].origin - origin);
    for (int64_t n = 0; n < count; n++) {
        int64_t chosen = -1;
        for (int64_t t = 0; t < threads; t++)
            if (places[t] < count && (chosen < 0 || found[t][row].best[places[t]] > found[chosen][row].best[places[chosen]]))
                chosen = t;
        log_probs[n] = found[chosen][row].best[places[chosen]] - origin - logf(total);
        pieces[n] = found[chosen][row].pieces[places[chosen]++];
    }
}

/* a number, since it is taken from logits that may be minus infinity */
#define LOWEST -1e30f

static Found *new_found(int64_t rows, int64_t count) {
    Found *found = aligned_alloc(64, rows * sizeof(Found));
    float *best = malloc(rows * count * sizeof(float));
    int64_t *pieces = calloc(rows * count, sizeof(int64_t));
    for (int64_t i = 0; i < rows * count; i++) best[i] = -INFINITY;
    for (int64_t i = 0; i < rows; i++) found[i] = (Found){_mm512_setzero_ps(), LOWEST, best + i * count, pieces + i * count};
    return found;
}

static void free_found(Found *found) {
    if (found) free(found->best), free(found->pieces), free(found);
}

/* the `count` largest of the log-probabilities of each row's logits, best first, but for those of the pieces in never */
void choose_of_bytes(const Parts *parts, int64_t asked, const uint8_t *panels, const float *scales, const float *bias,
                     int64_t inner, int64_t columns, const int64_t *never, int64_t nevers, int64_t count,
                     float *log_probs, int64_t *pieces) {
    if (asked == 0) return;
    Rows rows = new_rows(parts, asked, inner);
    int64_t number = (columns + PANEL - 1) / PANEL, most = omp_get_max_threads();
    Found **found = calloc(most, sizeof(Found *));
#pragma omp parallel
    {
        int64_t threads = omp_get_num_threads(), own = omp_get_thread_num();
        int64_t first = number * own / threads, last = number * (own + 1) / threads;
        Found *mine = first < last ? new_found(asked, count) : 0;
        found[own] = mine;
        quantize(parts, &rows);
        for (int64_t from = 0; mine && from < asked; from += CHUNK)
            for (int64_t p = first; p < last; p++)
                for (int64_t start = from; start < from + CHUNK && start < asked; start += TILE) {
                    float logits[TILE * PANEL];
                    int64_t after = start + TILE < asked ? start + TILE : asked;
                    multiply(&rows, start, after, panels + p * PANEL * inner, scales + p * PANEL, bias + p * PANEL, logits,
                             PANEL, PANEL);
                    for (int64_t i = start; i < after; i++)
                        look(logits + (i - start) * PANEL, p * PANEL, never, nevers, count, mine + i);
                }
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < asked; i++) join(found, threads, i, count, log_probs + i * count, pieces + i * count);
        free_found(mine);
    }
    free(found);
    free_rows(&rows);
}

#else

int64_t multiplies_integers(void) { return 0; }

#endif
