/* All steps of a recurrence, forwards or backwards, with one call; steps.py says of what, layer.py and recurrence.py have the
 * equations, and the same step by step. In float32, with products by matrices that have been laid out. */

#include "kernels.h"

#ifdef __AVX512F__

/* [T, B, D], the elements of D side by side; where `values` is NULL there is nothing */
typedef struct { float *values; int64_t step, row; } Steps;

/* a layer of cells: from rows [fed; h] to gates, and back; of whole numbers maybe to the words too, for which rows are rounded once */
typedef struct {
    Matrix forward, back, words;
    int64_t kind, batch, size, fed;
    const float *bias;
    Steps inputs, projected, gates, hiddens, cells, squashed, of_gates, of_hiddens, of_last, of_last_cell, of_words;
    float *of_cell, *products, *of_inputs;
    const int64_t *ends;
} Layer;

/* attention with a score that is additive where there is a vector, else bilinear; of whole numbers keys and values are in float16
 * too */
typedef struct {
    Matrix forward, back;
    int64_t batch, positions, size, key_size;
    double scale;
    const float *keys, *values, *vector;
    Steps padding, factors, weights, contexts, products, of_contexts, of_scores, of_products, given_contexts, given_weights;
    float *scores, *of_query, *of_keys, *of_vector;
    const uint16_t *key_halves, *value_halves;
} Attention;

/* tanh of a product of rows [v; h], times a mask */
typedef struct {
    Matrix forward, back;
    int64_t batch, size;
    Steps inputs, mask, plain, outputs, of_sums, of_outputs;
    float *products, *of_inputs;
} Readout;

static inline float *at(Steps x, int64_t t) { return x.values ? x.values + t * x.step : NULL; }

static inline Sum none(void) {
    Sum sum = {0};
    return sum;
}

static inline void add(Sum *sum, const float *values, int64_t stride) {
    if (!values) return;
    sum->terms[sum->count].values = values, sum->terms[sum->count].stride = stride, sum->terms[sum->count].wide = 1;
    sum->count++;
}

static inline void add_to(float *total, Steps given, int64_t row, int64_t size) {
    for (int64_t j = 0; j < size && given.values; j++) total[j] += given.values[row * given.row + j];
}

static void multiply(const Matrix *by, const float *rows, int64_t row, int64_t count, float *results) {
#ifdef __AVX512VNNI__
    if (by->scales) {
        IntegerProduct product = {*by, results, 0};
        products_of_integers(rows, 0, row, 1, count, &product, 1, NULL);
        return;
    }
#endif
    product_of_floats(rows, row, count, by->depth, by->panels, by->columns, results);
}

/* h_t goes to `low` too */
static void update(const Layer *of, int64_t t, int64_t steps, float *low, int64_t low_row) {
    Sum projected = none();
    multiply(&of->forward, at(of->inputs, t), of->inputs.row, of->batch, of->products);
    add(&projected, at(of->projected, t), of->projected.row);
    cell_forward_float(of->kind, of->products, &projected, of->bias, at(of->cells, t), of->batch, of->size, at(of->gates, t),
                       at(of->hiddens, t), at(of->cells, t + 1), at(of->squashed, t), low, low_row,
                       t + 1 < steps ? at(of->inputs, t + 1) + of->fed : NULL, of->inputs.row);
}

/* Leaves the gradient of [fed; h_{t-1}] in of_inputs; that of h_t is the sum given, and what of_inputs has of step t + 1. Those of the
 * last state come in at the last step, or where a row ends. */
static void update_back(const Layer *of, int64_t t, int64_t steps, Sum of_hidden) {
    int64_t width = of->fed + of->size;
    add(&of_hidden, at(of->of_hiddens, t), of->of_hiddens.row);
    if (of->ends) {
        if (t + 1 == steps) memset(of->of_inputs, 0, of->batch * width * sizeof(float));
        for (int64_t i = 0; i < of->batch; i++)
            if (of->ends[i] == t + 1) {
                add_to(of->of_inputs + i * width + of->fed, of->of_last, i, of->size);
                add_to(of->of_cell + i * of->size, of->of_last_cell, i, of->size);
            }
    }
    if (of->ends || t + 1 < steps) add(&of_hidden, of->of_inputs + of->fed, width);
    else add(&of_hidden, of->of_last.values, of->of_last.row);
    cell_back_float(of->kind, at(of->gates, t), at(of->cells, t), at(of->squashed, t), &of_hidden, of->batch, of->size, of->of_cell,
                    at(of->of_gates, t));
#ifdef __AVX512VNNI__
    if (of->words.scales) {
        IntegerProduct both[2] = {{of->back, of->of_inputs, 0}, {of->words, at(of->of_words, t), 0}};
        products_of_integers(at(of->of_gates, t), 0, of->of_gates.row, 1, of->batch, both, 2, NULL);
        return;
    }
#endif
    multiply(&of->back, at(of->of_gates, t), of->of_gates.row, of->batch, of->of_inputs);
}

static void layer_forward(const Layer *of, int64_t steps) {
    for (int64_t t = 0; t < steps; t++) update(of, t, steps, NULL, 0);
}

static void layer_back(const Layer *of, int64_t steps) {
    for (int64_t t = steps - 1; t >= 0; t--) update_back(of, t, steps, none());
}

/* Layers that do not depend on each other: a thread for each, which then waits for no other, where there are no more threads than
 * layers. Inside a parallel region of one thread those of the steps would begin new threads each time. */
static void each_layer(void (*go)(const Layer *, int64_t), const Layer **layers, int64_t count, int64_t steps) {
    if (omp_get_max_threads() > 1 && omp_get_max_threads() <= count) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < count; n++) go(layers[n], steps);
    } else
        for (int64_t n = 0; n < count; n++) go(layers[n], steps);
}

void layers_forward(const Layer **layers, int64_t count, int64_t steps) { each_layer(layer_forward, layers, count, steps); }

void layers_back(const Layer **layers, int64_t count, int64_t steps) { each_layer(layer_back, layers, count, steps); }

/* the context goes to `low` too */
static void read_source(const Attention *of, int64_t t, const float *query, float *low, int64_t low_row) {
#ifdef __AVX512VNNI__
    if (of->key_halves) {
        attend_to_halves(query, of->key_halves, of->value_halves, of->scale, at(of->padding, t), at(of->factors, t), of->batch,
                         of->positions, of->key_size, of->size, at(of->weights, t), at(of->contexts, t), low, low_row);
        return;
    }
#endif
    if (of->vector) {
        float *products = at(of->products, t);
        multiply(&of->forward, query, of->forward.depth, of->batch, products);
        additive_float(products, of->keys, of->vector, of->batch, 1, of->positions, of->key_size, of->scores);
    } else {
        compare_float(query, of->keys, NULL, of->batch, 1, of->positions, of->key_size, of->scores);
        if (of->scale != 1)
            for (int64_t i = 0; i < of->batch * of->positions; i++) of->scores[i] *= of->scale;
    }
    attend_float(of->scores, at(of->padding, t), at(of->factors, t), of->values, of->batch, of->positions, of->size,
                 at(of->weights, t), at(of->contexts, t), low, low_row);
}

/* leaves the gradient of the query in of_query */
static void read_source_back(const Attention *of, int64_t t, Sum of_context) {
    float *of_scores = at(of->of_scores, t);
    add(&of_context, at(of->given_contexts, t), of->given_contexts.row);
#ifdef __AVX512VNNI__
    if (of->key_halves) {
        attend_to_halves_back(&of_context, at(of->given_weights, t), of->given_weights.row, at(of->weights, t), of->key_halves,
                              of->value_halves, of->scale, of->batch, of->positions, of->key_size, of->size, at(of->of_contexts, t),
                              of_scores, of->of_query);
        return;
    }
#endif
    attend_back_float(&of_context, at(of->given_weights, t), of->given_weights.row, at(of->weights, t), of->values, of->batch,
                      of->positions, of->size, at(of->of_contexts, t), of_scores);
    if (of->vector) {
        float *of_products = at(of->of_products, t);
        additive_back_float(at(of->products, t), of->keys, of->vector, of_scores, of->batch, of->positions, of->key_size,
                            of->of_keys, of_products, of->of_vector);
        multiply(&of->back, of_products, of->of_products.row, of->batch, of->of_query);
        return;
    }
    average_float(of_scores, of->keys, NULL, of->batch, 1, of->positions, of->key_size, of->of_query);
    if (of->scale != 1)
        for (int64_t i = 0; i < of->batch * of->key_size; i++) of->of_query[i] *= of->scale;
}

/* Luong's wiring: update with the last readout, attend with the new state, read */
void fed_readouts_forward(const Layer *layer, const Attention *attention, const Readout *readout, int64_t steps) {
    for (int64_t t = 0; t < steps; t++) {
        float *read = at(readout->inputs, t), *fed = t + 1 < steps ? at(layer->inputs, t + 1) : NULL;
        update(layer, t, steps, read + attention->size, readout->inputs.row);
        read_source(attention, t, at(layer->hiddens, t), read, readout->inputs.row);
        multiply(&readout->forward, read, readout->inputs.row, readout->batch, readout->products);
        squash_float(readout->products, at(readout->mask, t), readout->mask.row, readout->batch, readout->size,
                     at(readout->plain, t), at(readout->outputs, t), fed, layer->inputs.row);
    }
}

void fed_readouts_back(const Layer *layer, const Attention *attention, const Readout *readout, int64_t steps) {
    int64_t width = readout->back.columns;
    for (int64_t t = steps - 1; t >= 0; t--) {
        Sum of_output = none(), of_context = none(), of_hidden = none();
        if (t + 1 < steps) add(&of_output, layer->of_inputs, layer->fed + layer->size);
        add(&of_output, at(readout->of_outputs, t), readout->of_outputs.row);
        squash_back_float(&of_output, at(readout->mask, t), readout->mask.row, at(readout->plain, t), readout->batch,
                          readout->size, at(readout->of_sums, t));
        multiply(&readout->back, at(readout->of_sums, t), readout->of_sums.row, readout->batch, readout->of_inputs);
        add(&of_context, readout->of_inputs, width);
        read_source_back(attention, t, of_context);
        add(&of_hidden, readout->of_inputs + attention->size, width);
        add(&of_hidden, attention->of_query, layer->size);
        update_back(layer, t, steps, of_hidden);
    }
}

/* Bahdanau's wiring: attend with the old state, update with what was read; `states` begin with the one before the first step */
void fed_contexts_forward(const Layer *layer, const Attention *attention, const Steps *states, int64_t steps) {
    for (int64_t t = 0; t < steps; t++) {
        read_source(attention, t, at(*states, t), at(layer->inputs, t), layer->inputs.row);
        update(layer, t, steps, at(*states, t + 1), states->row);
    }
}

/* leaves the gradient of the first state in of_query */
void fed_contexts_back(const Layer *layer, const Attention *attention, int64_t steps) {
    for (int64_t t = steps - 1; t >= 0; t--) {
        Sum of_hidden = none(), of_context = none();
        if (t + 1 < steps) add(&of_hidden, attention->of_query, layer->size);
        update_back(layer, t, steps, of_hidden);
        add(&of_context, layer->of_inputs, layer->fed + layer->size);
        read_source_back(attention, t, of_context);
    }
}

#endif
