/* Products with a matrix of 8 bits an element, for search; eight_bit.py says what each computes and calls them, integers.c how matrices
 * lie and are multiplied. Two panels at a time give 64 columns. A segment ends where a part of the rows does, if not before. */

#include "kernels.h"

#ifdef __AVX512VNNI__

/* rows of float32, given as parts that stand side by side */
#define PARTS 4
typedef struct {
    int64_t count;
    struct { const float *values; int64_t stride, width; } terms[PARTS];
} Parts;

/* The same in 8 bits: of each segment lines [room] and their scales. `words` are those of whole rows; segment n has those from begins[n]
 * on. */
typedef struct {
    int64_t count, room, segments, words, *begins;
    int32_t *lines;
    float *scales;
} Rows;

#define PAIR BLOCK
/* so many rows at a time meet two panels, whose products stay in the nearest cache */
#define GROUP 64
/* or so many, where logits are looked at in between */
#define HALF_GROUP 32
/* so many meet a matrix, panel by panel, of which the cache holds a few */
#define CHUNK (3 * GROUP)

int64_t multiplies_integers(void) { return 1; }

static Rows new_rows(const Parts *parts, int64_t count) {
    /* a tile may read beyond the last line */
    Rows rows = {.count = count, .room = parts_of(count, 16) * 16};
    for (int64_t n = 0; n < parts->count; n++) rows.segments += parts_of(parts->terms[n].width, SEGMENT);
    rows.begins = malloc((rows.segments + 1) * sizeof(int64_t));
    for (int64_t n = 0, s = 0; n < parts->count; n++)
        for (int64_t first = 0; first < parts->terms[n].width; first += SEGMENT) {
            rows.begins[s++] = rows.words;
            rows.words += words_of(least(SEGMENT, parts->terms[n].width - first), 1);
        }
    rows.begins[rows.segments] = rows.words;
    rows.lines = aligned_alloc(64, rows.segments * rows.room * BYTE_LINE * sizeof(int32_t));
    rows.scales = malloc(rows.segments * rows.room * sizeof(float));
    return rows;
}

static void free_rows(Rows *rows) { free(rows->lines), free(rows->scales), free(rows->begins); }

/* called by every thread of a team */
static void quantize(const Parts *parts, Rows *rows) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rows->count; i += 8)
        for (int64_t n = 0, s = 0; n < parts->count; n++)
            for (int64_t first = 0; first < parts->terms[n].width; first += SEGMENT, s++)
                lines_of_bytes(parts->terms[n].values + i * parts->terms[n].stride + first, parts->terms[n].stride,
                               least(8, rows->count - i), least(SEGMENT, parts->terms[n].width - first),
                               rows->lines + (s * rows->room + i) * BYTE_LINE, rows->scales + s * rows->room + i);
}

/* rows first .. last times panels 2p and 2p + 1; `results` is where the first of them goes, of 64 columns or fewer */
static void multiply(const Rows *rows, int64_t first, int64_t last, const Matrix *by, int64_t p, float *results, int64_t stride,
                     int64_t columns) {
    int64_t room = parts_of(by->columns, PAIR) * PAIR;
    for (int64_t half = 0; half < 2 && half * PANEL < columns; half++)
        for (int64_t s = 0; s < rows->segments; s++) {
            const int32_t *panel = (const int32_t *)by->panels + ((2 * p + half) * rows->words + rows->begins[s]) * PANEL;
            int64_t length = rows->begins[s + 1] - rows->begins[s];
            multiply_bytes(rows->lines + (s * rows->room + first) * BYTE_LINE, rows->scales + s * rows->room + first, last - first,
                           panel, by->scales + s * room + p * PAIR + half * PANEL, length, s > 0, results + half * PANEL, stride,
                           columns - half * PANEL, panel + length * PANEL);
        }
}

/* How many shares of the rows there are, and how large each is: no more than a cache holds beside all panels, and several
 * where panels are fewer than threads. A thread meets all panels with a share before the next one. */
static void share_out(int64_t count, int64_t panels, int64_t *shares, int64_t *share) {
    int64_t threads = omp_get_num_threads(), least = panels < threads ? (threads + panels - 1) / panels : 1;
    *shares = (count + CHUNK - 1) / CHUNK;
    *shares = *shares > least ? *shares : least;
    *share = parts_of(parts_of(count, *shares), 16) * 16;
}

/* results [rows, columns] */
void product_of_bytes(const Parts *parts, int64_t count, const Matrix *by, float *results) {
    Rows rows = new_rows(parts, count);
    int64_t columns = by->columns, number = parts_of(columns, PAIR);
#pragma omp parallel if (count * by->depth * columns > 64 * SMALL)
    {
        int64_t shares, share;
        begin_tiles();
        share_out(count, number, &shares, &share);
        quantize(parts, &rows);
#pragma omp for schedule(static) collapse(2)
        for (int64_t s = 0; s < shares; s++)
            for (int64_t p = 0; p < number; p++) {
                int64_t first = s * share, last = least(first + share, count);
                if (first < last)
                    multiply(&rows, first, last, by, p, results + first * columns + p * PAIR, columns, columns - p * PAIR);
            }
        end_tiles();
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

/* h', c' of 16 units, of what two panels give, their biases and c; gating.py has the equations */
static inline void lstm_of_panels(const float *sum, const float *bias, __m512 cell, float *hidden, float *new) {
    __m512 of_in = _mm512_add_ps(_mm512_loadu_ps(sum), _mm512_loadu_ps(bias));
    __m512 of_kept = _mm512_add_ps(_mm512_loadu_ps(sum + 16), _mm512_loadu_ps(bias + 16));
    __m512 of_out = _mm512_add_ps(_mm512_loadu_ps(sum + 32), _mm512_loadu_ps(bias + 32));
    __m512 of_new = _mm512_add_ps(_mm512_loadu_ps(sum + 48), _mm512_loadu_ps(bias + 48));
    __m512 kept = _mm512_div_ps(cell, _mm512_add_ps(_mm512_set1_ps(1.0f), exponentials(of_kept, -1)));
    __m512 both = _mm512_add_ps(kept, gated(of_in, of_new));
    _mm512_storeu_ps(new, both);
    _mm512_storeu_ps(hidden, gated(of_out, both));
}

static inline void gru_of_panels(const float *sum, const float *bias, __m512 cell, float *hidden, float *new) {
    __m512 reset = sigmoid(_mm512_add_ps(_mm512_loadu_ps(sum), _mm512_loadu_ps(bias)));
    __m512 update = sigmoid(_mm512_add_ps(_mm512_loadu_ps(sum + 16), _mm512_loadu_ps(bias + 16)));
    __m512 candidate = _mm512_add_ps(_mm512_loadu_ps(sum + 32), _mm512_loadu_ps(bias + 32));
    __m512 recurrent = _mm512_add_ps(_mm512_loadu_ps(sum + 48), _mm512_loadu_ps(bias + 48));
    candidate = tangent(_mm512_fmadd_ps(reset, recurrent, candidate));
    __m512 both = _mm512_fmadd_ps(update, _mm512_sub_ps(cell, candidate), candidate);
    _mm512_storeu_ps(new, both);
    _mm512_storeu_ps(hidden, both);
}

/* one step of an LSTM or GRU: h', c' [rows, units] of c and of what the products give; two panels have the four blocks of 16 units */
void cell_of_bytes(int64_t kind, const Parts *parts, int64_t count, const Matrix *by, const float *bias, const float *cells,
                   float *hiddens, float *news) {
    Rows rows = new_rows(parts, count);
    int64_t units = by->columns / 4, number = units / 16;
#pragma omp parallel if (count * by->depth * units > 16 * SMALL)
    {
        int64_t shares, share;
        begin_tiles();
        share_out(count, number, &shares, &share);
        quantize(parts, &rows);
#pragma omp for schedule(static) collapse(2)
        for (int64_t s = 0; s < shares; s++)
            for (int64_t p = 0; p < number; p++) {
                int64_t last = least((s + 1) * share, count);
                for (int64_t first = s * share; first < last; first += GROUP) {
                    float sums[GROUP * PAIR];
                    int64_t after = least(first + GROUP, last);
                    multiply(&rows, first, after, by, p, sums, PAIR, PAIR);
                    for (int64_t i = first; i < after; i++) {
                        const float *sum = sums + (i - first) * PAIR;
                        int64_t place = i * units + 16 * p;
                        __m512 cell = _mm512_loadu_ps(cells + place);
                        if (kind == LSTM) lstm_of_panels(sum, bias + p * PAIR, cell, hiddens + place, news + place);
                        else gru_of_panels(sum, bias + p * PAIR, cell, hiddens + place, news + place);
                    }
                }
            }
        end_tiles();
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

/* Take note of 64 logits, those of the pieces from `first` on, given without their bias. Few of them are among the best, so that all
 * are compared with the last of these at once. What is added up stays small: the origin follows the largest. */
static inline void look(float *logits, const float *bias, int64_t first, const int64_t *never, int64_t nevers, int64_t count,
                        Found *found) {
    __m512 values[4], last = _mm512_set1_ps(found->best[count - 1]);
    uint64_t better = 0;
    for (int64_t n = 0; n < 4; n++) {
        values[n] = _mm512_add_ps(_mm512_loadu_ps(logits + 16 * n), _mm512_loadu_ps(bias + first + 16 * n));
        _mm512_storeu_ps(logits + 16 * n, values[n]);
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
void choose_of_bytes(const Parts *parts, int64_t asked, const Matrix *by, const float *bias, const int64_t *never, int64_t nevers,
                     int64_t count, float *log_probs, int64_t *pieces) {
    if (asked == 0) return;
    Rows rows = new_rows(parts, asked);
    int64_t number = parts_of(by->columns, PAIR), most = omp_get_max_threads();
    Found **found = calloc(most, sizeof(Found *));
#pragma omp parallel
    {
        int64_t threads = omp_get_num_threads(), own = omp_get_thread_num();
        int64_t first = number * own / threads, last = number * (own + 1) / threads;
        Found *mine = first < last ? new_found(asked, count) : 0;
        found[own] = mine;
        begin_tiles();
        quantize(parts, &rows);
        for (int64_t from = 0; mine && from < asked; from += CHUNK)
            for (int64_t p = first; p < last; p++)
                for (int64_t start = from; start < least(from + CHUNK, asked); start += HALF_GROUP) {
                    float logits[HALF_GROUP * PAIR];
                    int64_t after = least(start + HALF_GROUP, asked);
                    multiply(&rows, start, after, by, p, logits, PAIR, PAIR);
                    for (int64_t i = start; i < after; i++)
                        look(logits + (i - start) * PAIR, bias, p * PAIR, never, nevers, count, mine + i);
                }
        end_tiles();
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
