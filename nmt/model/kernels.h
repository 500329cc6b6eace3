/* What the functions in C share: bfloat16, e^x and what is made of it, sizes. */

#ifndef NMT_KERNELS_H
#define NMT_KERNELS_H

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bfloat16;

static inline float from_bfloat16(bfloat16 x) {
    union { uint32_t bits; float value; } wide = {(uint32_t)x << 16};
    return wide.value;
}

/* to the nearest, ties to even; NaN stays NaN */
static inline bfloat16 to_bfloat16(float x) {
    union { float value; uint32_t bits; } wide = {x};
    uint32_t rounded = wide.bits + 0x7fff + ((wide.bits >> 16) & 1);
    return x != x ? 0x7fc0 : (bfloat16)(rounded >> 16);
}

static inline float from_float(float x) { return x; }
static inline float to_float(float x) { return x; }

/* 2^n e^r with |r| <= log(2) / 2, e^r by Cephes' polynomial: to 1e-7 of its value, 0 where that is all but lost; NaN stays
 * NaN. The bounds are drawn on bits, as whole numbers: compilers turn comparisons of float32 that must mind NaN into many
 * more instructions. */
static inline float exponential(float given) {
    union { float value; uint32_t bits; } low = {given};
    /* -88.1, from which on n is -127 and the power of two 0: below 0 the lower number has the larger bits, and all numbers
     * above 0 have smaller ones */
    low.bits = low.bits < 0xc2b03333u ? low.bits : 0xc2b03333u;
    /* 88 */
    union { int32_t bits; float value; } bounded = {(int32_t)low.bits};
    bounded.bits = bounded.bits < 0x42b00000 ? bounded.bits : 0x42b00000;
    float x = bounded.value;
    float n = __builtin_rintf(x * 1.44269504088896341f);
    /* log(2) in two parts, the first of which times n is exact */
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t bits; float value; } power = {((int32_t)n + 127) << 23};
    float result = (p * r * r + r + 1.0f) * power.value;
    return given == given ? result : given;
}

/* vectors that are added up row by row: each of float32 where wide, else of the low type */
typedef struct {
    int64_t count;
    struct { const void *values; int64_t stride, wide; } terms[4];
} Sum;

/* fewer elements than this are not worth a second thread */
#define SMALL 8192

/* What is smaller counts as 0: a weight of attention adds nothing to others that add up to 1, nor its gradient to those of
 * others, nor a row of such numbers to a product. */
#define NOTHING 1e-30f

/* for what keeps many sums in registers, of which callers want some too */
#define ALONE __attribute__((noinline))

#define BLOCK 64

static inline float largest_of(const float *values) {
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < BLOCK; j++) largest = values[j] > largest ? values[j] : largest;
    return largest;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

/* kinds of cells, and how many blocks of pre-activations each has: gating.py */
enum { LSTM, GRU, RNN };
static inline int64_t blocks_of(int64_t kind) { return kind == RNN ? 1 : 4; }

/* what integers.c rounds factors to: 16 bits, 8, or 8 where the rows that meet a matrix are gradients */
enum { SHORTS, BYTES, BYTES_OF_GRADIENTS };

/* columns of a panel of whole numbers; places of a segment; from the words of a line's segment to those of the next line's, where they
 * are of bytes: integers.c says what these are */
#define PANEL 32
#define SEGMENT 512
#define BYTE_LINE (SEGMENT / 4 + 16)

/* Places of a word, and words of so many places, in whole vectors. Whether bytes are meant is known when compiled wherever it decides
 * how a number is read or written. */
static inline int64_t places_of(int64_t bytes) { return bytes ? 4 : 2; }
static inline int64_t words_of(int64_t depth, int64_t bytes) { return parts_of(depth, 16 * places_of(bytes)) * 16; }

/* A matrix that was laid out; rows of `depth` by it make rows of `columns`. As integers.c does so, in one of the kinds above, it has
 * scales; as panels.c does, none. */
typedef struct { const void *panels; const float *scales; int64_t columns, depth, kind; } Matrix;

/* a matrix of whole numbers, and where its products go; `more`: they are added to what is there */
typedef struct { Matrix by; float *results; int64_t more; } IntegerProduct;

/* what steps.c calls of the other files */
void cell_forward_float(int64_t kind, const float *products, const Sum *inputs, const float *bias, const float *cells, int64_t rows,
                        int64_t size, float *gates, float *hiddens, float *news, float *squasheds, float *lows, int64_t lows_stride,
                        float *others, int64_t others_stride);
void cell_back_float(int64_t kind, const float *gates, const float *cells, const float *squasheds, const Sum *of_hidden, int64_t rows,
                     int64_t size, float *of_cells, float *of_gates);
void squash_float(const float *products, const float *masks, int64_t masks_stride, int64_t rows, int64_t size, float *plains,
                  float *outputs, float *lows, int64_t lows_stride);
void squash_back_float(const Sum *of_output, const float *masks, int64_t masks_stride, const float *plains, int64_t rows, int64_t size,
                       float *of_products);
void attend_float(const float *scores, const float *padding, const float *factors, const float *values, int64_t rows,
                  int64_t positions, int64_t size, float *weights, float *contexts, float *lows, int64_t lows_stride);
void attend_back_float(const Sum *of_context, const float *of_weights, int64_t weights_stride, const float *weights,
                       const float *values, int64_t rows, int64_t positions, int64_t size, float *of_contexts, float *of_scores);
void additive_float(const float *products, const float *keys, const float *vector, int64_t rows, int64_t asked, int64_t positions,
                    int64_t size, float *scores);
void additive_back_float(const float *products, const float *keys, const float *vector, const float *of_scores, int64_t rows,
                         int64_t positions, int64_t size, float *of_keys, float *of_products, float *of_vector);
void attend_to_halves(const float *queries, const uint16_t *keys, const uint16_t *values, float scale, const float *padding,
                      const float *factors, int64_t rows, int64_t positions, int64_t key_size, int64_t size, float *weights,
                      float *contexts, float *lows, int64_t lows_stride);
void attend_to_halves_back(const Sum *of_context, const float *of_weights, int64_t weights_stride, const float *weights,
                           const uint16_t *keys, const uint16_t *values, float scale, int64_t rows, int64_t positions, int64_t key_size,
                           int64_t size, float *of_contexts, float *of_scores, float *of_queries);
void compare_float(const float *queries, const float *keys, const int64_t *places, int64_t sentences, int64_t asked,
                   int64_t positions, int64_t size, float *scores);
void average_float(const float *weights, const float *values, const int64_t *places, int64_t sentences, int64_t asked,
                   int64_t positions, int64_t size, float *means);
void product_of_floats(const float *rows, int64_t row, int64_t count, int64_t depth, const float *panels, int64_t columns,
                       float *results);
void products_of_integers(const void *rows, int64_t half, int64_t row, int64_t inner, int64_t count,
                          const IntegerProduct *products, int64_t number, float *sums);

/* what eight_bit.c calls of integers.c */
void begin_tiles(void);
void end_tiles(void);
void lines_of_bytes(const float *rows, int64_t row, int64_t count, int64_t depth, int32_t *lines, float *scales);
void multiply_bytes(const int32_t *rows, const float *row_scales, int64_t height, const int32_t *panel, const float *scales,
                    int64_t length, int64_t more, float *into, int64_t stride, int64_t left, const int32_t *next);

#ifdef __AVX512F__

#include <immintrin.h>

/* so many of a vector of 16 elements, or all */
static inline __mmask16 first_of(int64_t count) { return count >= 16 ? 0xffff : count > 0 ? (1 << count) - 1 : 0; }

#define LOG2E 1.44269504088896341f

/* 2^x of 16 numbers, to 1e-7 of its value: 2^(x - floor(x)) by the polynomial with the least relative error, times 2^floor(x);
 * below -125 that of -125, since smaller ones slow the processor down */
static inline __m512 powers(__m512 x) {
    /* of a number and none, the second is taken */
    x = _mm512_max_ps(_mm512_set1_ps(-125.0f), x);
    __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.8775766752e-3f), r, _mm512_set1_ps(8.9893400905e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5826318053e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4015361704e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9315307320e-1f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, r, _mm512_set1_ps(9.9999992506e-1f)), x);
}

/* 1 / (1 + 2^x) of 16 numbers, to 1e-7 of its value; from 2^60 on that of 2^60, which is next to nothing. A step of
 * Newton's, y (2 - x y) for 1 / x, brings the processor's first guess to that, in a quarter of the time of a division. */
static inline __m512 over_1_and_power(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f), bounded = _mm512_min_ps(_mm512_set1_ps(60.0f), _mm512_max_ps(_mm512_set1_ps(-125.0f), x));
    /* 2^r with |r| <= 1/2 by a polynomial, which is 1 at 0 */
    __m512 r = _mm512_reduce_ps(bounded, _MM_FROUND_TO_NEAREST_INT);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.5353362e-4f), r, _mm512_set1_ps(1.3398874e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6184369e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5503324e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022648e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, one);
    __m512 sum = _mm512_add_ps(one, _mm512_scalef_ps(p, _mm512_sub_ps(bounded, r)));
    __m512 guess = _mm512_rcp14_ps(sum);
    return _mm512_fmadd_ps(guess, _mm512_fnmadd_ps(sum, guess, one), guess);
}

/* as many numbers as are gone through at once, of which so many are left */
#define AT_ONCE 16
typedef __m512 Numbers;
typedef __mmask16 Left;
static inline Left left_of(int64_t count) { return first_of(count); }
static inline Numbers get_float(const float *from, Left left) { return _mm512_maskz_loadu_ps(left, from); }
static inline Numbers get_bfloat16(const bfloat16 *from, Left left) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(left, from)), 16));
}
static inline void put(float *to, Left left, Numbers x) { _mm512_mask_storeu_ps(to, left, x); }
static inline float sum_of(Numbers x) { return _mm512_reduce_add_ps(x); }
static inline Numbers sigmoid(Numbers x) { return over_1_and_power(x * -LOG2E); }
static inline Numbers tangent(Numbers x) { return 2.0f * over_1_and_power(x * (-2.0f * LOG2E)) - 1.0f; }
#define ALL_AT_ONCE
#define ADD_UP(sum)

/* 16 vectors of 16 elements of 32 bits turned, `stride` elements apart */
__attribute__((unused)) static ALONE void turn(const __m512i *given, void *at, int64_t stride) {
    __m512i r[16], t[16];
    int32_t *into = at;
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(given[i], given[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(given[i], given[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(into + i * stride, _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88));
        _mm512_storeu_si512(into + (4 + i) * stride, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88));
        _mm512_storeu_si512(into + (8 + i) * stride, _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
        _mm512_storeu_si512(into + (12 + i) * stride, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd));
    }
}

#else

/* one at a time, and the compiler makes of it what it can */
#define AT_ONCE 1
typedef float Numbers;
typedef int64_t Left;
static inline Left left_of(int64_t count) { return count; }
static inline Numbers get_float(const float *from, Left left) { return *from; }
static inline Numbers get_bfloat16(const bfloat16 *from, Left left) { return from_bfloat16(*from); }
static inline void put(float *to, Left left, Numbers x) { *to = x; }
static inline float sum_of(Numbers x) { return x; }
static inline Numbers sigmoid(Numbers x) { return 1.0f / (1.0f + exponential(-x)); }
static inline Numbers tangent(Numbers x) { return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f; }
#define ALL_AT_ONCE _Pragma("omp simd")
#define PRAGMA(text) _Pragma(#text)
#define ADD_UP(sum) PRAGMA(omp simd reduction(+ : sum))

#endif

#endif
