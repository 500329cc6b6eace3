/* Products of a few float32 rows with a matrix that many of them meet; panels.py calls them.
 *
 * A panel holds 64 columns of a product, as [depth][64]. A tile of six rows and 64 columns stays in 24 registers while a panel
 * comes from the cache of the second level and the rows from that of the first; meanwhile the next panel is brought there. Four
 * products for each number read of a row, and six for each of a panel: a processor that shares its cores, and then reads no more
 * than three instructions a cycle, still multiplies in two of them. */

#include "kernels.h"

#ifdef __AVX512F__

#define WIDTH BLOCK
#define ROWS 6
/* of a row at a time: six rows of so much fill half of the first cache */
#define DEPTH 1024
/* rows at a time: so much of them fills a part of the second cache */
#define HEIGHT (24 * ROWS)

int64_t multiplies_floats(void) { return 1; }

/* 16 rows of 16 floats, a row `stride` from the next, as columns that lie WIDTH apart */
static void turn_floats(const float *from, int64_t stride, float *into) {
    __m512i rows[16];
    for (int i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(from + i * stride);
    turn(rows, into, WIDTH);
}

/* A matrix whose element for column c of a product and place k is at c * column + k * inner, as panels; beyond the last column
 * they hold zeros. It is fast where one of the distances is 1. */
void lay_out_floats(const float *matrix, int64_t column, int64_t inner, int64_t columns, int64_t depth, float *panels) {
    int64_t number = (columns + WIDTH - 1) / WIDTH;
#pragma omp parallel for schedule(static) if (columns * depth > SMALL)
    for (int64_t p = 0; p < number; p++) {
        float *into = panels + p * depth * WIDTH;
        const float *from = matrix + p * WIDTH * column;
        int64_t here = columns - p * WIDTH < WIDTH ? columns - p * WIDTH : WIDTH, k = 0;
        if (here == WIDTH && inner == 1)
            for (; k + 16 <= depth; k += 16)
                for (int64_t c = 0; c < WIDTH; c += 16) turn_floats(from + c * column + k, column, into + k * WIDTH + c);
        else if (here == WIDTH && column == 1)
            for (; k < depth; k++) memcpy(into + k * WIDTH, from + k * inner, WIDTH * sizeof(float));
        for (; k < depth; k++)
            for (int64_t c = 0; c < WIDTH; c++) into[k * WIDTH + c] = c < here ? from[c * column + k * inner] : 0;
    }
}

#define NONE(r) \
    __m512 a##r = _mm512_setzero_ps(), b##r = _mm512_setzero_ps(), c##r = _mm512_setzero_ps(), d##r = _mm512_setzero_ps();
#define FORMER(r) \
    a##r = _mm512_loadu_ps(into + r * stride), b##r = _mm512_loadu_ps(into + r * stride + 16); \
    c##r = _mm512_loadu_ps(into + r * stride + 32), d##r = _mm512_loadu_ps(into + r * stride + 48);
#define ADD(r) { \
    __m512 x = _mm512_set1_ps(rows[r * row + k]); \
    a##r = _mm512_fmadd_ps(x, a, a##r), b##r = _mm512_fmadd_ps(x, b, b##r); \
    c##r = _mm512_fmadd_ps(x, c, c##r), d##r = _mm512_fmadd_ps(x, d, d##r); }
#define STORE(r) \
    _mm512_storeu_ps(into + r * stride, a##r), _mm512_storeu_ps(into + r * stride + 16, b##r); \
    _mm512_storeu_ps(into + r * stride + 32, c##r), _mm512_storeu_ps(into + r * stride + 48, d##r);
#define OF_1(X) X(0)
#define OF_2(X) OF_1(X) X(1)
#define OF_3(X) OF_2(X) X(2)
#define OF_4(X) OF_3(X) X(3)
#define OF_5(X) OF_4(X) X(4)
#define OF_6(X) OF_5(X) X(5)
#define PLACE(number) { \
    __m512 a = _mm512_load_ps(panel + k * WIDTH), b = _mm512_load_ps(panel + k * WIDTH + 16); \
    __m512 c = _mm512_load_ps(panel + k * WIDTH + 32), d = _mm512_load_ps(panel + k * WIDTH + 48); \
    OF_##number(ADD) }

/* `into` [number, 64] = rows x panel, plus what is there if `more`; `next` is on its way to the second cache afterwards, 16
 * bytes of it a place */
#define TILE(number) \
    static ALONE void tile_##number(const float *rows, int64_t row, const float *panel, int64_t depth, int more, float *into, \
                                    int64_t stride, const float *next) { \
        OF_##number(NONE) \
        if (more) { OF_##number(FORMER) } \
        int64_t k = 0; \
        while (k + 4 <= depth) { \
            _mm_prefetch((const char *)(next + 4 * k), _MM_HINT_T1); \
            _Pragma("GCC unroll 4") for (int u = 0; u < 4; u++, k++) PLACE(number) \
        } \
        for (; k < depth; k++) PLACE(number) \
        OF_##number(STORE) \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

typedef void (*Tile)(const float *, int64_t, const float *, int64_t, int, float *, int64_t, const float *);
static const Tile TILES[ROWS] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* results [count, columns] = rows [count, depth] x panels; rows lie `row` apart, results side by side. Each number is made by
 * one thread, in one order, however many there are. */
void product_of_floats(const float *rows, int64_t row, int64_t count, int64_t depth, const float *panels, int64_t columns,
                       float *results) {
    int64_t number = (columns + WIDTH - 1) / WIDTH;
#pragma omp parallel if (count * depth * columns > 64 * SMALL)
    {
        int64_t share = omp_get_thread_num(), of = omp_get_num_threads();
        int64_t begin = number * share / of, end = number * (share + 1) / of;
        for (int64_t top = 0; top < count; top += HEIGHT)
            for (int64_t first = 0; first < depth; first += DEPTH) {
                int64_t height = least(HEIGHT, count - top), length = least(DEPTH, depth - first);
                int64_t tiles = (height + ROWS - 1) / ROWS;
                for (int64_t p = begin; p < end; p++) {
                    const float *panel = panels + (p * depth + first) * WIDTH;
                    int64_t wide = least(WIDTH, columns - p * WIDTH);
                    for (int64_t t = 0; t < tiles; t++) {
                        /* of about as many rows each */
                        int64_t from = height * t / tiles, here = height * (t + 1) / tiles - from;
                        const float *block = rows + (top + from) * row + first, *next = panel + depth * WIDTH + 4 * t * length;
                        float *into = results + (top + from) * columns + p * WIDTH;
                        if (wide == WIDTH) {
                            TILES[here - 1](block, row, panel, length, first > 0, into, columns, next);
                            continue;
                        }
                        /* the last panel's columns that are none of the product's */
                        float beyond[ROWS * WIDTH];
                        for (int64_t r = 0; r < here && first; r++)
                            memcpy(beyond + r * WIDTH, into + r * columns, wide * sizeof(float));
                        TILES[here - 1](block, row, panel, length, first > 0, beyond, WIDTH, next);
                        for (int64_t r = 0; r < here; r++)
                            memcpy(into + r * columns, beyond + r * WIDTH, wide * sizeof(float));
                    }
                }
            }
    }
}

#else

int64_t multiplies_floats(void) { return 0; }

#endif
