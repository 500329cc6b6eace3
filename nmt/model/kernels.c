/* The elementwise parts of a recurrent step, each in one pass over memory; kernels.py says what each computes and calls them.
 *
 * Everything is float32, but what goes into a matrix product or comes out of one is of type LOW: bfloat16 or float32. The
 * part of this file that mentions LOW is compiled once for either. Rows are shared out among the threads of the OpenMP
 * that torch has loaded. Strides are in elements, of rows whose own elements lie side by side. */

#ifndef LOW

#include "kernels.h"

/* of this file, when it was compiled */
int64_t checksum(void) { return CHECKSUM; }

/* whether the processor has what the compiler was told that it has */
int64_t runs_here(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return 0;
#endif
#ifdef __AVX512VBMI__
    if (!__builtin_cpu_supports("avx512vbmi")) return 0;
#endif
#ifdef __AVX512VNNI__
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
#endif
#ifdef __AVX512BF16__
    if (!__builtin_cpu_supports("avx512bf16")) return 0;
#endif
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) return 0;
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) return 0;
#endif
#ifdef __FMA4__
    if (!__builtin_cpu_supports("fma4")) return 0;
#endif
#ifdef __BMI2__
    if (!__builtin_cpu_supports("bmi2")) return 0;
#endif
#ifdef __AVX__
    if (!__builtin_cpu_supports("avx")) return 0;
#endif
#endif
    return 1;
}

/* SplitMix64 from a state on; kernels.py has the paper */
void random_words(uint64_t state, int64_t count, uint64_t *words) {
#pragma omp parallel for simd schedule(static) if (count > SMALL)
    for (int64_t i = 0; i < count; i++) {
        uint64_t z = state + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        words[i] = z ^ (z >> 31);
    }
}

/* an element, 1 where there are no values, stays where its 16 random bits are not below the threshold, times a scale */
void drop(const float *values, const int16_t *bits, int64_t threshold, float scale, int64_t size, float *results) {
    int16_t least = (int16_t)threshold;
    if (values) {
#pragma omp parallel for simd schedule(static) if (size > SMALL)
        for (int64_t i = 0; i < size; i++) results[i] = bits[i] >= least ? values[i] * scale : 0;
    } else {
#pragma omp parallel for simd schedule(static) if (size > SMALL)
        for (int64_t i = 0; i < size; i++) results[i] = bits[i] >= least ? scale : 0;
    }
}

/* Sums [vocabulary, size] of the rows of each token, which lie `row` apart; a thread has its tokens, whose rows it adds in their
 * order. */
void add_by_token(const int64_t *tokens, const float *values, int64_t row, int64_t rows, int64_t size, int64_t vocabulary, float *sums) {
#pragma omp parallel if (vocabulary * size > SMALL)
    {
        int64_t number = omp_get_thread_num(), of = omp_get_num_threads();
        int64_t begin = vocabulary * number / of, end = vocabulary * (number + 1) / of;
        memset(sums + begin * size, 0, (end - begin) * size * sizeof(float));
        for (int64_t i = 0; i < rows; i++) {
            if (tokens[i] < begin || tokens[i] >= end) continue;
            float *sum = sums + tokens[i] * size;
#pragma omp simd
            for (int64_t k = 0; k < size; k++) sum[k] += values[i * row + k];
        }
    }
}

/* weights [rows, positions] = softmax of the scores where it is allowed, else 0; as many rows as one row of `allowed` is for.
 * What is next to nothing is 0: smaller numbers than float32 has whole would slow down whatever multiplies by them. */
void soften(const float *scores, const uint8_t *allowed, int64_t rows, int64_t alike, int64_t positions, float *weights) {
#pragma omp parallel for schedule(static) if (rows * positions > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const float *score = scores + i * positions;
        const uint8_t *may = allowed + i / alike * positions;
        float *weight = weights + i * positions, largest = -FLT_MAX, total = 0;
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < positions; j++) {
            /* where it is no number neither */
            weight[j] = may[j] && score[j] > -FLT_MAX ? score[j] : -INFINITY;
            largest = weight[j] > largest ? weight[j] : largest;
        }
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < positions; j++) {
            weight[j] = exponential(weight[j] - largest);
            total += weight[j];
        }
        float factor = total > 0 ? 1 / total : 0;
#pragma omp simd
        for (int64_t j = 0; j < positions; j++) weight[j] = weight[j] < NOTHING ? 0 : weight[j] * factor;
    }
}

/* Of each row that is real and has a target y: of_readouts [rows, size] -= share * weight_y, of_weight_y -= share * readouts. The
 * readouts' rows are `row` apart. */
void join_targets(const int64_t *targets, const uint8_t *real, int64_t rows, int64_t size, int64_t vocabulary, float share,
                  const float *weight, const float *readouts, int64_t row, float *of_readouts, float *of_weight) {
#pragma omp parallel if (rows * size > SMALL)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < rows; i++) {
            if ((real && !real[i]) || targets[i] < 0 || targets[i] >= vocabulary) continue;
            const float *own = weight + targets[i] * size;
            float *of_readout = of_readouts + i * size;
#pragma omp simd
            for (int64_t k = 0; k < size; k++) of_readout[k] -= share * own[k];
        }
        /* rows have targets in common, hence a thread its columns */
#pragma omp for schedule(static)
        for (int64_t first = 0; first < size; first += BLOCK)
            for (int64_t i = 0; i < rows; i++) {
                if ((real && !real[i]) || targets[i] < 0 || targets[i] >= vocabulary) continue;
                const float *readout = readouts + i * row;
                float *own = of_weight + targets[i] * size;
#pragma omp simd
                for (int64_t k = first; k < (first + BLOCK < size ? first + BLOCK : size); k++) own[k] -= share * readout[k];
            }
    }
}

/* 16 numbers: as they are stored, and as they are computed with */
typedef float Lanes __attribute__((vector_size(64)));
typedef float Stored_float __attribute__((vector_size(64)));
typedef uint16_t Stored_bfloat16 __attribute__((vector_size(32)));
typedef uint32_t Wide __attribute__((vector_size(64)));
static inline Lanes widened_float(Stored_float stored) { return stored; }
static inline Lanes widened_bfloat16(Stored_bfloat16 stored) { return (Lanes)(__builtin_convertvector(stored, Wide) << 16); }

/* The sum of the squares of all elements of tensors, in parts of one size, the same by any number of threads. */
#define PART 65536
double squares(const float *const *tensors, const int64_t *sizes, int64_t count) {
    double total = 0;
    int64_t parts = 0;
    for (int64_t n = 0; n < count; n++) parts += (sizes[n] + PART - 1) / PART;
    double *sums = malloc((parts + 1) * sizeof(double));
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < parts; p++) {
        int64_t n = 0, own = p;
        while (own >= (sizes[n] + PART - 1) / PART) own -= (sizes[n++] + PART - 1) / PART;
        const float *values = tensors[n] + own * PART;
        int64_t length = least(PART, sizes[n] - own * PART);
        /* so many sums at once, since each alone would wait for itself */
        Lanes found[4] = {{0}}, here;
        int64_t k = 0;
        for (; k + 64 <= length; k += 64)
            for (int64_t m = 0; m < 4; m++) {
                memcpy(&here, values + k + 16 * m, sizeof here);
                found[m] += here * here;
            }
        found[0] += found[1] + (found[2] + found[3]);
        sums[p] = 0;
        for (int64_t m = 0; m < 16; m++) sums[p] += found[0][m];
        for (; k < length; k++) sums[p] += values[k] * values[k];
    }
    for (int64_t p = 0; p < parts; p++) total += sums[p];
    free(sums);
    return total;
}

typedef uint16_t Lane __attribute__((vector_size(32)));

#if defined(__clang__) || __GNUC__ >= 12
#define INTERLEAVED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define INTERLEAVED(a, b, ...) __builtin_shuffle(a, b, (Lane){__VA_ARGS__})
#endif

/* 16 x 16 elements: to interleave rows i and i + 8 four times over exchanges rows and columns */
static inline void transpose_tile(const uint16_t *from, int64_t from_stride, uint16_t *to, int64_t to_stride) {
    Lane rows[16], next[16];
    for (int64_t i = 0; i < 16; i++) memcpy(&rows[i], from + i * from_stride, sizeof(Lane));
    for (int64_t round = 0; round < 4; round++) {
        for (int64_t i = 0; i < 8; i++) {
            Lane a = rows[i], b = rows[i + 8];
            next[2 * i] = INTERLEAVED(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            next[2 * i + 1] = INTERLEAVED(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(rows, next, sizeof rows);
    }
    for (int64_t i = 0; i < 16; i++) memcpy(to + i * to_stride, &rows[i], sizeof(Lane));
}

/* [rows, size] -> [size, rows], of 16 bits each; the results' rows are `stride` apart */
void transpose(const uint16_t *values, int64_t rows, int64_t size, uint16_t *result, int64_t stride) {
    int64_t whole_rows = rows / 16 * 16, whole_size = size / 16 * 16;
#pragma omp parallel for schedule(static) if (rows * size > SMALL)
    for (int64_t column = 0; column < whole_size; column += 128)
        for (int64_t row = 0; row < whole_rows; row += 32)
            /* several tiles each way: whole lines of the cache are read and written, and few pages touched at a time */
            for (int64_t j = column; j < column + 128 && j < whole_size; j += 16)
                for (int64_t i = row; i < row + 32 && i < whole_rows; i += 16)
                    transpose_tile(values + i * size + j, size, result + j * stride + i, stride);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i < whole_rows ? whole_size : 0; j < size; j++) result[j * stride + i] = values[i * size + j];
}

#define GLUE(name, type) name##_##type
#define NAMED(name, type) GLUE(name, type)
#define LOW bfloat16
#include "kernels.c"
#undef LOW
#define LOW float
#include "kernels.c"
#undef LOW

#else

#define FROM NAMED(from, LOW)
#define TO NAMED(to, LOW)

static inline void NAMED(add_up, LOW)(const Sum *sum, int64_t row, int64_t size, float *total) {
    int64_t first = sum->count && sum->terms[0].wide;
    if (first) memcpy(total, (const float *)sum->terms[0].values + row * sum->terms[0].stride, size * sizeof(float));
    else memset(total, 0, size * sizeof(float));
    for (int64_t n = first; n < sum->count; n++) {
        if (sum->terms[n].wide) {
            const float *values = (const float *)sum->terms[n].values + row * sum->terms[n].stride;
#pragma omp simd
            for (int64_t j = 0; j < size; j++) total[j] += values[j];
        } else {
            const LOW *values = (const LOW *)sum->terms[n].values + row * sum->terms[n].stride;
#pragma omp simd
            for (int64_t j = 0; j < size; j++) total[j] += FROM(values[j]);
        }
    }
}

/* nothing where there is no place */
static inline void NAMED(write_low, LOW)(const float *values, int64_t size, LOW *lows, int64_t stride, int64_t row) {
    if (!lows) return;
    LOW *low = lows + row * stride;
#pragma omp simd
    for (int64_t j = 0; j < size; j++) low[j] = TO(values[j]);
}

/* One row of a cell: h', c' and what is kept, of its pre-activations, three terms each; gating.py has the equations. */

#define GATE(n) (get_float(given + (n) * size + j, left) + get_float(bias + (n) * size + j, left) + \
                 NAMED(get, LOW)(product + (n) * size + j, left))

static inline void NAMED(lstm_row, LOW)(const LOW *product, const float *given, const float *bias, const float *cell, int64_t size,
                                        float *gate, float *hidden, float *new, float *squashed) {
    ALL_AT_ONCE
    for (int64_t j = 0; j < size; j += AT_ONCE) {
        Left left = left_of(size - j);
        Numbers entering = sigmoid(GATE(0)), kept = sigmoid(GATE(1)), shown = sigmoid(GATE(2)), candidate = tangent(GATE(3));
        Numbers both = kept * get_float(cell + j, left) + entering * candidate, seen = tangent(both);
        put(gate + j, left, entering), put(gate + size + j, left, kept), put(gate + 2 * size + j, left, shown);
        put(gate + 3 * size + j, left, candidate), put(squashed + j, left, seen);
        put(new + j, left, both), put(hidden + j, left, shown * seen);
    }
}

static inline void NAMED(gru_row, LOW)(const LOW *product, const float *given, const float *bias, const float *cell, int64_t size,
                                       float *gate, float *hidden, float *new) {
    ALL_AT_ONCE
    for (int64_t j = 0; j < size; j += AT_ONCE) {
        Left left = left_of(size - j);
        Numbers reset = sigmoid(GATE(0)), update = sigmoid(GATE(1)), recurrent = GATE(3);
        Numbers candidate = tangent(GATE(2) + reset * recurrent), both = candidate + update * (get_float(cell + j, left) - candidate);
        put(gate + j, left, reset), put(gate + size + j, left, update), put(gate + 2 * size + j, left, candidate);
        put(gate + 3 * size + j, left, recurrent), put(new + j, left, both), put(hidden + j, left, both);
    }
}

static inline void NAMED(rnn_row, LOW)(const LOW *product, const float *given, const float *bias, int64_t size, float *gate, float *hidden,
                                       float *new) {
    ALL_AT_ONCE
    for (int64_t j = 0; j < size; j += AT_ONCE) {
        Left left = left_of(size - j);
        Numbers both = tangent(GATE(0));
        put(gate + j, left, both), put(new + j, left, both), put(hidden + j, left, both);
    }
}

#undef GATE

void NAMED(cell_forward, LOW)(int64_t kind, const LOW *products, const Sum *inputs, const float *bias, const float *cells,
                              int64_t rows, int64_t size, float *gates, float *hiddens, float *news, float *squasheds,
                              LOW *lows, int64_t lows_stride, LOW *others, int64_t others_stride) {
    int64_t width = blocks_of(kind) * size;
#pragma omp parallel if (rows * size > SMALL)
    {
        /* what is not given is 0 */
        float *sum = malloc(width * sizeof(float)), *zeros = calloc(width, sizeof(float));
        /* gates and tanh(c), where search does not ask for them: a loop without a question is vectorised everywhere */
        float *unasked = gates ? NULL : malloc((width + size) * sizeof(float));
        const float *added = bias ? bias : zeros;
        int in_place = inputs->count == 1 && inputs->terms[0].wide;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const float *cell = cells + i * size, *given = inputs->count ? sum : zeros;
            const LOW *product = products + i * width;
            float *hidden = hiddens + i * size, *new = news + i * size;
            if (in_place) given = (const float *)inputs->terms[0].values + i * inputs->terms[0].stride;
            else if (inputs->count) NAMED(add_up, LOW)(inputs, i, width, sum);
            float *gate = gates ? gates + i * width : unasked, *squashed = gates ? squasheds + i * size : unasked + width;
            if (kind == LSTM) NAMED(lstm_row, LOW)(product, given, added, cell, size, gate, hidden, new, squashed);
            else if (kind == GRU) NAMED(gru_row, LOW)(product, given, added, cell, size, gate, hidden, new);
            else NAMED(rnn_row, LOW)(product, given, added, size, gate, hidden, new);
            NAMED(write_low, LOW)(hidden, size, lows, lows_stride, i);
            NAMED(write_low, LOW)(hidden, size, others, others_stride, i);
        }
        free(sum), free(zeros), free(unasked);
    }
}

/* One row of gradients: those of the pre-activations, and that of c in the place of that of c', given that of h', `total`. */

static inline void NAMED(lstm_row_back, LOW)(const float *entering, const float *cell, const float *squashed, const float *total,
                                             int64_t size, float *of_cell, LOW *of_gate) {
    const float *kept = entering + size, *shown = kept + size, *candidate = shown + size;
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
        float d = of_cell[j] + total[j] * shown[j] * (1 - squashed[j] * squashed[j]);
        of_gate[j] = TO(d * candidate[j] * entering[j] * (1 - entering[j]));
        of_gate[size + j] = TO(d * cell[j] * kept[j] * (1 - kept[j]));
        of_gate[2 * size + j] = TO(total[j] * squashed[j] * shown[j] * (1 - shown[j]));
        of_gate[3 * size + j] = TO(d * entering[j] * (1 - candidate[j] * candidate[j]));
        of_cell[j] = d * kept[j];
    }
}

static inline void NAMED(gru_row_back, LOW)(const float *reset, const float *cell, const float *total, int64_t size, float *of_cell,
                                            LOW *of_gate) {
    const float *update = reset + size, *candidate = update + size, *recurrent = candidate + size;
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
        float d = of_cell[j] + total[j], of_candidate = d * (1 - update[j]) * (1 - candidate[j] * candidate[j]);
        of_gate[j] = TO(of_candidate * recurrent[j] * reset[j] * (1 - reset[j]));
        of_gate[size + j] = TO(d * (cell[j] - candidate[j]) * update[j] * (1 - update[j]));
        of_gate[2 * size + j] = TO(of_candidate);
        of_gate[3 * size + j] = TO(of_candidate * reset[j]);
        of_cell[j] = d * update[j];
    }
}

static inline void NAMED(rnn_row_back, LOW)(const float *hidden, const float *total, int64_t size, float *of_cell, LOW *of_gate) {
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
        of_gate[j] = TO((of_cell[j] + total[j]) * (1 - hidden[j] * hidden[j]));
        of_cell[j] = 0;
    }
}

void NAMED(cell_back, LOW)(int64_t kind, const float *gates, const float *cells, const float *squasheds, const Sum *of_hidden,
                           int64_t rows, int64_t size, float *of_cells, LOW *of_gates) {
    int64_t width = blocks_of(kind) * size;
#pragma omp parallel
    {
        float *total = malloc(size * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const float *gate = gates + i * width, *cell = cells + i * size;
            float *of_cell = of_cells + i * size;
            LOW *of_gate = of_gates + i * width;
            /* the next row is on its way meanwhile: of parts this short the processor fetches little by itself */
            for (int64_t k = 0; k < width; k += 16) {
                __builtin_prefetch(gate + width + k, 0, 2);
                __builtin_prefetch(of_gate + width + k, 1, 2);
            }
            NAMED(add_up, LOW)(of_hidden, i, size, total);
            if (kind == LSTM) NAMED(lstm_row_back, LOW)(gate, cell, squasheds + i * size, total, size, of_cell, of_gate);
            else if (kind == GRU) NAMED(gru_row_back, LOW)(gate, cell, total, size, of_cell, of_gate);
            else NAMED(rnn_row_back, LOW)(gate, total, size, of_cell, of_gate);
        }
        free(total);
    }
}

void NAMED(squash, LOW)(const LOW *products, const float *masks, int64_t masks_stride, int64_t rows, int64_t size,
                        float *plains, float *outputs, LOW *lows, int64_t lows_stride) {
#pragma omp parallel for schedule(static) if (rows * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const LOW *product = products + i * size;
        float *plain = plains + i * size, *output = outputs + i * size;
        ALL_AT_ONCE
        for (int64_t j = 0; j < size; j += AT_ONCE)
            put(plain + j, left_of(size - j), tangent(NAMED(get, LOW)(product + j, left_of(size - j))));
        if (masks) {
            const float *mask = masks + i * masks_stride;
#pragma omp simd
            for (int64_t j = 0; j < size; j++) output[j] = plain[j] * mask[j];
        }
        NAMED(write_low, LOW)(output, size, lows, lows_stride, i);
    }
}

void NAMED(squash_back, LOW)(const Sum *of_output, const float *masks, int64_t masks_stride, const float *plains,
                             int64_t rows, int64_t size, LOW *of_products) {
#pragma omp parallel
    {
        float *total = malloc(size * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const float *plain = plains + i * size;
            LOW *of_product = of_products + i * size;
            NAMED(add_up, LOW)(of_output, i, size, total);
            if (masks) {
                const float *mask = masks + i * masks_stride;
#pragma omp simd
                for (int64_t j = 0; j < size; j++) total[j] *= mask[j];
            }
#pragma omp simd
            for (int64_t j = 0; j < size; j++) of_product[j] = TO(total[j] * (1 - plain[j] * plain[j]));
        }
        free(total);
    }
}

/* weights = softmax(scores + padding) * factors; context = sum_j weights_j values_j */
void NAMED(attend, LOW)(const float *scores, const float *padding, const float *factors, const float *values,
                        int64_t rows, int64_t positions, int64_t size, float *weights, float *contexts, LOW *lows,
                        int64_t lows_stride) {
#pragma omp parallel for schedule(static) if (rows * positions * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const float *score = scores + i * positions, *pad = padding + i * positions, *factor = factors + i * positions;
        float *weight = weights + i * positions, *context = contexts + i * size, largest = -INFINITY, total = 0;
        for (int64_t j = 0; j < positions; j++) {
            weight[j] = score[j] + pad[j];
            largest = weight[j] > largest ? weight[j] : largest;
        }
        for (int64_t j = 0; j < positions; j++) {
            weight[j] = exponential(weight[j] - largest);
            total += weight[j];
        }
        for (int64_t k = 0; k < size; k++) context[k] = 0;
        for (int64_t j = 0; j < positions; j++) {
            weight[j] = weight[j] / total * factor[j];
            /* so is all padding, and most of what a window leaves out */
            if (weight[j] == 0) continue;
            const float *value = values + (i * positions + j) * size, share = weight[j];
#pragma omp simd
            for (int64_t k = 0; k < size; k++) context[k] += share * value[k];
        }
        NAMED(write_low, LOW)(context, size, lows, lows_stride, i);
    }
}

/* d weights_j = values_j . d context (+ what else there is); d scores_j = weights_j (d weights_j - sum_k weights_k d weights_k) */
void NAMED(attend_back, LOW)(const Sum *of_context, const float *of_weights, int64_t weights_stride,
                             const float *weights, const float *values, int64_t rows, int64_t positions, int64_t size,
                             float *of_contexts, float *of_scores) {
#pragma omp parallel for schedule(static) if (rows * positions * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const float *weight = weights + i * positions;
        float *total = of_contexts + i * size, *of_score = of_scores + i * positions, mean = 0;
        NAMED(add_up, LOW)(of_context, i, size, total);
        for (int64_t j = 0; j < positions; j++) {
            const float *value = values + (i * positions + j) * size;
            float given = of_weights ? of_weights[i * weights_stride + j] : 0;
#pragma omp simd reduction(+ : given)
            for (int64_t k = 0; k < size; k++) given += value[k] * total[k];
            of_score[j] = given * weight[j];
            mean += of_score[j];
        }
        for (int64_t j = 0; j < positions; j++) of_score[j] -= weight[j] * mean;
    }
}

/* score_j = vector . tanh(product + key_j); so many rows, one after the other, ask for the same keys */
void NAMED(additive, LOW)(const LOW *products, const float *keys, const float *vector, int64_t rows, int64_t asked,
                          int64_t positions, int64_t size, float *scores) {
#pragma omp parallel for schedule(static) if (rows * positions * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const LOW *product = products + i * size;
        for (int64_t j = 0; j < positions; j++) {
            const float *key = keys + (i / asked * positions + j) * size;
            Numbers score = {0};
            ADD_UP(score)
            for (int64_t k = 0; k < size; k += AT_ONCE) {
                Left left = left_of(size - k);
                score += get_float(vector + k, left) * tangent(NAMED(get, LOW)(product + k, left) + get_float(key + k, left));
            }
            scores[i * positions + j] = sum_of(score);
        }
    }
}

/* adds to of_keys and of_vector */
void NAMED(additive_back, LOW)(const LOW *products, const float *keys, const float *vector, const float *of_scores,
                               int64_t rows, int64_t positions, int64_t size, float *of_keys, LOW *of_products,
                               float *of_vector) {
    /* one sum a thread, added up in their order, so that the same threads give the same result */
    float *sums = calloc(omp_get_max_threads() * size, sizeof(float));
#pragma omp parallel
    {
        float *total = malloc(size * sizeof(float)), *own = sums + omp_get_thread_num() * size;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const LOW *product = products + i * size;
            for (int64_t k = 0; k < size; k++) total[k] = 0;
            for (int64_t j = 0; j < positions; j++) {
                float of_score = of_scores[i * positions + j];
                /* as at all padding */
                if (of_score == 0) continue;
                const float *key = keys + (i * positions + j) * size;
                float *of_key = of_keys + (i * positions + j) * size;
                ALL_AT_ONCE
                for (int64_t k = 0; k < size; k += AT_ONCE) {
                    Left left = left_of(size - k);
                    Numbers squashed = tangent(NAMED(get, LOW)(product + k, left) + get_float(key + k, left));
                    Numbers gradient = of_score * get_float(vector + k, left) * (1.0f - squashed * squashed);
                    put(own + k, left, get_float(own + k, left) + of_score * squashed);
                    put(of_key + k, left, get_float(of_key + k, left) + gradient);
                    put(total + k, left, get_float(total + k, left) + gradient);
                }
            }
            NAMED(write_low, LOW)(total, size, of_products, size, i);
        }
        free(total);
        int64_t threads = omp_get_num_threads();
#pragma omp for schedule(static)
        for (int64_t k = 0; k < size; k++)
            for (int64_t n = 0; n < threads; n++) of_vector[k] += sums[n * size + k];
    }
    free(sums);
}

/* of one vector with up to four others: four sums at once, since each alone would wait for itself */
static inline void NAMED(dots, LOW)(const float *query, int64_t query_stride, const LOW *key, int64_t key_stride, int64_t count,
                                    int64_t size, float *scores, int64_t scores_stride) {
    const float *b = query + (count > 1) * query_stride, *c = query + (count > 2) * 2 * query_stride,
                *d = query + (count > 3) * 3 * query_stride;
    const LOW *x = key + (count > 1) * key_stride, *y = key + (count > 2) * 2 * key_stride, *z = key + (count > 3) * 3 * key_stride;
    float sums[4], one = 0, two = 0, three = 0, four = 0;
#pragma omp simd reduction(+ : one, two, three, four)
    for (int64_t k = 0; k < size; k++) {
        one += query[k] * FROM(key[k]);
        two += b[k] * FROM(x[k]);
        three += c[k] * FROM(y[k]);
        four += d[k] * FROM(z[k]);
    }
    sums[0] = one, sums[1] = two, sums[2] = three, sums[3] = four;
    for (int64_t n = 0; n < count && n < 4; n++) scores[n * scores_stride] = sums[n];
}

/* scores[b, q, j] = queries[b, q] . keys[places[b], j]; places are 0, 1, .. where none are given */
void NAMED(compare, LOW)(const float *queries, const LOW *keys, const int64_t *places, int64_t sentences, int64_t asked,
                         int64_t positions, int64_t size, float *scores) {
#pragma omp parallel for schedule(static) if (sentences * asked * positions * size > SMALL)
    for (int64_t b = 0; b < sentences; b++) {
        const float *query = queries + b * asked * size;
        const LOW *key = keys + (places ? places[b] : b) * positions * size;
        float *score = scores + b * asked * positions;
        if (asked == 1)
            for (int64_t j = 0; j < positions; j += 4)
                NAMED(dots, LOW)(query, 0, key + j * size, size, positions - j, size, score + j, 1);
        else
            for (int64_t j = 0; j < positions; j++)
                for (int64_t q = 0; q < asked; q += 4)
                    NAMED(dots, LOW)(query + q * size, size, key + j * size, 0, asked - q, size, score + q * positions + j, positions);
    }
}

static inline Lanes NAMED(lanes, LOW)(const LOW *values) {
    NAMED(Stored, LOW) stored;
    memcpy(&stored, values, sizeof stored);
    return NAMED(widened, LOW)(stored);
}

/* means[k] = sum_j weights[j] values[j, k] of so many elements as stay in registers, of one row of weights */
static ALONE void NAMED(average_one, LOW)(const float *weights, const LOW *values, int64_t positions, int64_t size, float *means) {
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define DECLARE(n) Lanes sum##n = {0};
#define ADD(n) sum##n += weight * NAMED(lanes, LOW)(values + 16 * n);
#define STORE(n) memcpy(means + 16 * n, &sum##n, sizeof sum##n);
    EACH(DECLARE)
    for (int64_t j = 0; j < positions; j++, values += size) {
        float weight = weights[j];
        /* as of all padding */
        if (fabsf(weight) < NOTHING) continue;
        EACH(ADD)
    }
    EACH(STORE)
#undef EACH
#undef DECLARE
#undef ADD
#undef STORE
}

/* the same of five rows of weights, of which `count` are given, for fewer elements, each of which is read once */
static ALONE void NAMED(average_five, LOW)(const float *weights, const LOW *values, int64_t count, int64_t positions, int64_t size,
                                           float *means) {
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4)
#define DECLARE(n)                                                                                                     \
    const float *weight##n = weights + (n < count ? n : count - 1) * positions;                                        \
    Lanes low##n = {0}, high##n = {0};
#define ALL(n) || !(fabsf(weight##n[j]) < NOTHING)
#define ADD(n) low##n += weight##n[j] * low, high##n += weight##n[j] * high;
#define STORE(n)                                                                                                       \
    if (n < count) memcpy(means + n * size, &low##n, sizeof low##n), memcpy(means + n * size + 16, &high##n, sizeof high##n);
    EACH(DECLARE)
    for (int64_t j = 0; j < positions; j++, values += size) {
        if (!(0 EACH(ALL))) continue;
        Lanes low = NAMED(lanes, LOW)(values), high = NAMED(lanes, LOW)(values + 16);
        EACH(ADD)
    }
    EACH(STORE)
#undef EACH
#undef DECLARE
#undef ALL
#undef ADD
#undef STORE
}

/* means[b, q] = sum_j weights[b, q, j] values[places[b], j] */
void NAMED(average, LOW)(const float *weights, const LOW *values, const int64_t *places, int64_t sentences, int64_t asked,
                         int64_t positions, int64_t size, float *means) {
#pragma omp parallel for schedule(static) if (sentences * asked * positions * size > SMALL)
    for (int64_t b = 0; b < sentences; b++)
        for (int64_t q = 0; q < asked; q += 5) {
            int64_t count = asked - q < 5 ? asked - q : 5, start = 0;
            const float *weight = weights + (b * asked + q) * positions;
            const LOW *value = values + (places ? places[b] : b) * positions * size;
            float *mean = means + (b * asked + q) * size;
            for (; count == 1 && start + 128 <= size; start += 128)
                NAMED(average_one, LOW)(weight, value + start, positions, size, mean + start);
            for (; start + 32 <= size; start += 32)
                NAMED(average_five, LOW)(weight, value + start, count, positions, size, mean + start);
            for (; start < size; start++)
                for (int64_t n = 0; n < count; n++) {
                    float sum = 0;
                    for (int64_t j = 0; j < positions; j++)
                        if (!(fabsf(weight[n * positions + j]) < NOTHING)) sum += weight[n * positions + j] * FROM(value[j * size + start]);
                    mean[n * size + start] = sum;
                }
        }
}

/* Adds to of_bias; a row that is not real counts for nothing. */
void NAMED(cross_entropy, LOW)(LOW *logits, const float *bias, const int64_t *targets, const uint8_t *real, int64_t rows, int64_t size,
                               float smoothing, int64_t differentiate, float *nll, float *of_bias) {
    /* one sum a thread, added up in their order, so that the same threads give the same result */
    float *sums = calloc(omp_get_max_threads() * size, sizeof(float));
#pragma omp parallel
    {
        float *wide = malloc(size * sizeof(float)), *own = sums + omp_get_thread_num() * size;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            LOW *logit = logits + i * size;
            if (real && !real[i]) {
                nll[i] = 0;
                if (differentiate)
                    for (int64_t v = 0; v < size; v++) logit[v] = 0;
                continue;
            }
            if (targets[i] < 0 || targets[i] >= size) {
                nll[i] = NAN;
                continue;
            }
            float largest = -INFINITY, total = 0, chosen = FROM(logit[targets[i]]) + bias[targets[i]];
            /* where the logits are wide they need no other place */
            float *row = sizeof(LOW) == sizeof(float) ? (float *)logit : wide;
#pragma omp simd reduction(max : largest)
            for (int64_t v = 0; v < size; v++) {
                float value = FROM(logit[v]) + bias[v];
                largest = value > largest ? value : largest;
            }
#pragma omp simd reduction(+ : total)
            for (int64_t v = 0; v < size; v++) {
                row[v] = exponential(FROM(logit[v]) + bias[v] - largest);
                total += row[v];
            }
            nll[i] = logf(total) + largest - chosen;
            if (!differentiate) continue;
            float factor = 1 / total, spread = smoothing / size;
            row[targets[i]] -= (1 - smoothing) * total;
#pragma omp simd
            for (int64_t v = 0; v < size; v++) {
                float gradient = row[v] * factor - spread;
                own[v] += gradient;
                logit[v] = TO(gradient);
            }
        }
        free(wide);
        int64_t threads = omp_get_num_threads();
#pragma omp for schedule(static)
        for (int64_t v = 0; v < size; v++)
            for (int64_t n = 0; n < threads; n++) of_bias[v] += sums[n * size + v];
    }
    free(sums);
}

/* the count largest of a row's log-probabilities, best first, but for those of the pieces in never */
void NAMED(choose, LOW)(const LOW *logits, const float *bias, const int64_t *never, int64_t nevers, int64_t rows,
                        int64_t size, int64_t count, float *log_probs, int64_t *pieces) {
    int64_t blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel
    {
        float *row = malloc((blocks * BLOCK + blocks) * sizeof(float)), *best = row + blocks * BLOCK;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const LOW *logit = logits + i * size;
            float largest = -INFINITY, total = 0;
#pragma omp simd reduction(max : largest)
            for (int64_t v = 0; v < size; v++) {
                row[v] = FROM(logit[v]) + bias[v];
                largest = row[v] > largest ? row[v] : largest;
            }
#pragma omp simd reduction(+ : total)
            for (int64_t v = 0; v < size; v++) total += exponential(row[v] - largest);
            for (int64_t v = size; v < blocks * BLOCK; v++) row[v] = -INFINITY;
            for (int64_t n = 0; n < nevers; n++)
                if (never[n] >= 0 && never[n] < size) row[never[n]] = -INFINITY;
            for (int64_t b = 0; b < blocks; b++) best[b] = largest_of(row + b * BLOCK);
            largest += logf(total);
            for (int64_t n = 0; n < count; n++) {
                int64_t block = 0, piece = 0;
                for (int64_t b = 1; b < blocks; b++) block = best[b] > best[block] ? b : block;
                float *values = row + block * BLOCK;
                while (piece < BLOCK - 1 && values[piece] != best[block]) piece++;
                log_probs[i * count + n] = best[block] - largest;
                /* beyond the last where nothing is a number */
                pieces[i * count + n] = block * BLOCK + piece < size ? block * BLOCK + piece : size - 1;
                values[piece] = -INFINITY;
                best[block] = largest_of(values);
            }
        }
        free(row);
    }
}

#undef FROM
#undef TO
#endif
