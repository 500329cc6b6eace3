/* Attention with a bilinear score over keys and values in float16, all of a step at once; recurrence.py says what it computes.
 *
 * A step reads each sentence's keys and values once, for one query: what it takes is to bring them from memory, of which float16
 * needs half. They are read as float32, in which all else is computed. */

#include "kernels.h"

#ifdef __AVX512VNNI__

static inline __m512 widened(const uint16_t *halves, __mmask16 within) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(within, halves));
}

/* what is read next is on its way meanwhile: keys and values of a sentence are a few pages, at each of which the processor stops
 * fetching by itself */
static inline void fetch(const uint16_t *halves) { _mm_prefetch((const char *)halves, _MM_HINT_T0); }

/* of a vector with each of several others; four sums at once, since each alone would wait for itself */
static inline void dots(const float *vector, const uint16_t *others, int64_t count, int64_t size, const uint16_t *next,
                        float *results) {
    for (int64_t j = 0; j < count; j += 4) {
        const uint16_t *a = others + j * size, *b = a + (j + 1 < count) * size, *c = b + (j + 2 < count) * size,
                       *d = c + (j + 3 < count) * size;
        __m512 one = _mm512_setzero_ps(), two = one, three = one, four = one;
        for (int64_t k = 0; k < size; k += 16) {
            __mmask16 within = first_of(size - k);
            __m512 x = _mm512_maskz_loadu_ps(within, vector + k);
            if (k % 32 == 0)
                for (int64_t n = 0; n < 4; n++) fetch(next + (j + n) * size + k);
            one = _mm512_fmadd_ps(x, widened(a + k, within), one), two = _mm512_fmadd_ps(x, widened(b + k, within), two);
            three = _mm512_fmadd_ps(x, widened(c + k, within), three), four = _mm512_fmadd_ps(x, widened(d + k, within), four);
        }
        float sums[4] = {_mm512_reduce_add_ps(one), _mm512_reduce_add_ps(two), _mm512_reduce_add_ps(three),
                         _mm512_reduce_add_ps(four)};
        memcpy(results + j, sums, least(4, count - j) * sizeof(float));
    }
}

/* sum_j weights_j vectors_j, 128 elements at a time, which stay in registers */
static inline void average(const float *weights, const uint16_t *vectors, int64_t count, int64_t size, const uint16_t *next,
                           float *result) {
    for (int64_t k = 0; k < size; k += 128) {
        __m512 sums[8];
        for (int64_t n = 0; n < 8; n++) sums[n] = _mm512_setzero_ps();
        for (int64_t j = 0; j < count; j++) {
            /* as of all padding, and most of what a window leaves out */
            for (int64_t n = 0; n < 8; n += 2) fetch(next + j * size + k + 16 * n);
            if (fabsf(weights[j]) < NOTHING) continue;
            __m512 weight = _mm512_set1_ps(weights[j]);
            for (int64_t n = 0; n < 8; n++)
                sums[n] = _mm512_fmadd_ps(weight, widened(vectors + j * size + k + 16 * n, first_of(size - k - 16 * n)), sums[n]);
        }
        for (int64_t n = 0; n < 8; n++) _mm512_mask_storeu_ps(result + k + 16 * n, first_of(size - k - 16 * n), sums[n]);
    }
}

/* weights = softmax(scores + padding) * factors, in the place of the scores */
static inline void soften(float *weights, const float *padding, const float *factors, int64_t positions) {
    __m512 largest = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    for (int64_t j = 0; j < positions; j += 16) {
        __mmask16 within = first_of(positions - j);
        __m512 score = _mm512_add_ps(_mm512_maskz_loadu_ps(within, weights + j), _mm512_maskz_loadu_ps(within, padding + j));
        _mm512_mask_storeu_ps(weights + j, within, score);
        largest = _mm512_mask_max_ps(largest, within, largest, score);
    }
    __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int64_t j = 0; j < positions; j += 16) {
        __mmask16 within = first_of(positions - j);
        __m512 less = _mm512_sub_ps(_mm512_maskz_loadu_ps(within, weights + j), most);
        __m512 power = powers(_mm512_mul_ps(less, _mm512_set1_ps(LOG2E)));
        _mm512_mask_storeu_ps(weights + j, within, power);
        total = _mm512_mask_add_ps(total, within, total, power);
    }
    __m512 by = _mm512_set1_ps(1 / _mm512_reduce_add_ps(total)), nothing = _mm512_set1_ps(NOTHING);
    for (int64_t j = 0; j < positions; j += 16) {
        __mmask16 within = first_of(positions - j);
        __m512 weight = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(within, weights + j), by),
                                      _mm512_maskz_loadu_ps(within, factors + j));
        /* what is no number stays so */
        weight = _mm512_mask_mov_ps(weight, _mm512_cmp_ps_mask(weight, nothing, _CMP_LT_OQ), _mm512_setzero_ps());
        _mm512_mask_storeu_ps(weights + j, within, weight);
    }
}

void attend_to_halves(const float *queries, const uint16_t *keys, const uint16_t *values, float scale, const float *padding,
                      const float *factors, int64_t rows, int64_t positions, int64_t key_size, int64_t size, float *weights,
                      float *contexts, float *lows, int64_t lows_stride) {
#pragma omp parallel for schedule(static) if (rows * positions * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        float *weight = weights + i * positions, *context = contexts + i * size;
        const uint16_t *key = keys + i * positions * key_size, *value = values + i * positions * size;
        dots(queries + i * key_size, key, positions, key_size, value, weight);
        for (int64_t j = 0; j < positions && scale != 1; j++) weight[j] *= scale;
        soften(weight, padding + i * positions, factors + i * positions, positions);
        average(weight, value, positions, size, key + positions * key_size, context);
        memcpy(lows + i * lows_stride, context, size * sizeof(float));
    }
}

void attend_to_halves_back(const Sum *of_context, const float *of_weights, int64_t weights_stride, const float *weights,
                           const uint16_t *keys, const uint16_t *values, float scale, int64_t rows, int64_t positions, int64_t key_size,
                           int64_t size, float *of_contexts, float *of_scores, float *of_queries) {
#pragma omp parallel for schedule(static) if (rows * positions * size > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const float *weight = weights + i * positions;
        float *total = of_contexts + i * size, *of_score = of_scores + i * positions, *of_query = of_queries + i * key_size, mean = 0;
        memset(total, 0, size * sizeof(float));
        for (int64_t n = 0; n < of_context->count; n++) {
            const float *given = (const float *)of_context->terms[n].values + i * of_context->terms[n].stride;
            for (int64_t k = 0; k < size; k++) total[k] += given[k];
        }
        const uint16_t *key = keys + i * positions * key_size, *value = values + i * positions * size;
        dots(total, value, positions, size, key, of_score);
        for (int64_t j = 0; j < positions; j++) {
            of_score[j] = (of_score[j] + (of_weights ? of_weights[i * weights_stride + j] : 0)) * weight[j];
            mean += of_score[j];
        }
        for (int64_t j = 0; j < positions; j++) of_score[j] -= weight[j] * mean;
        average(of_score, key, positions, key_size, value + positions * size, of_query);
        for (int64_t k = 0; k < key_size && scale != 1; k++) of_query[k] *= scale;
    }
}

#endif
