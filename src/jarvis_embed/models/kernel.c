/* The encoder as one C function: the arithmetic of graph.py's layers, in int8 or fp32, without the cost of a graph.
 *
 * Texts lie one behind the other, so nothing is padded. Everything that happens to a token depends on its text alone: a
 * vector is the same, bit for bit, whatever else is in the batch. The two precisions differ in their products alone
 * (kernel_products.h), and in how a word is stored.
 *
 * Reentrant: no global state, and the caller lends the memory. Many messages are shared out by the caller, a call for
 * each thread; one message alone is shared out here, among a team (kernel_team.h).
 */
#include "kernel_products.h"

typedef struct {
    const float *gamma, *beta;
} Norm;

typedef struct {
    Product qkv, joined, inner, outer;
    Norm after_attention, after_feed_forward;
} Layer;

typedef struct {
    int32_t layers, hidden, heads, intermediate, first_token_only;
    float epsilon;
    const void *words;       /* int8_t or float [vocabulary][hidden] */
    const float *word_scale; /* [vocabulary]; NULL in fp32 */
    const float *positions;  /* [longest text][hidden] */
    Norm norm;
    const Layer *layer;
} Model;

/* x ← LayerNorm(x + more), for each of the tokens. */
static void add_and_norm(float *x, const float *more, int tokens, int size, Norm norm, float epsilon) {
    for (int t = 0; t < tokens; t++, x += size, more += more ? size : 0) {
        Floats total = all(0), squares = all(0);
        for (int i = 0; i < size; i += LANES) {
            Floats v = load(x + i);
            if (more) v += load(more + i);
            store(x + i, v);
            total += v;
        }
        float mean = sum(total) / size;
        for (int i = 0; i < size; i += LANES) {
            Floats v = load(x + i) - mean;
            squares += v * v;
        }
        float inverse = 1.f / sqrtf(sum(squares) / size + epsilon);
        for (int i = 0; i < size; i += LANES)
            store(x + i, (load(x + i) - mean) * inverse * load(norm.gamma + i) + load(norm.beta + i));
    }
}

typedef struct {
    const float *qkv;
    int tokens, hidden, heads;
    float *out, *memory;
} Attending;

/* Memory for attention over `tokens`, in floats: for each head its queries, and a vector of weights for each token. */
static size_t attention_memory(const Model *m, int tokens) {
    return (size_t)LANES * (m->hidden + (size_t)m->heads * tokens);
}

/* One head of attention inside one text. LANES queries stand side by side, so that softmax never looks across a vector;
 * keys, and then queries, are taken four at a time, so that no sum waits for the one before. Where fewer are left, the
 * last one stands in for those that are missing. */
static void attend_head(const void *work, int head) {
    const Attending w = *(const Attending *)work;
    const int tokens = w.tokens, size = w.hidden / w.heads, stride = 3 * w.hidden;
    const float root = 1.f / sqrtf((float)size);
    const float *q = w.qkv + head * size, *k = q + w.hidden, *v = k + w.hidden;
    float *queries = w.memory + (size_t)head * LANES * (size + tokens), *weights = queries + LANES * size;
    for (int first = 0; first < tokens; first += LANES) {
        const int here = at_most(LANES, tokens - first);
        memset(queries, 0, sizeof(Floats) * size);
        for (int t = 0; t < here; t++)
            for (int j = 0; j < size; j++) queries[LANES * j + t] = q[(size_t)(first + t) * stride + j] * root;
        Floats most = all(-1e30f), total = all(0);
        for (int s = 0; s < tokens; s += 4) {
            const float *key[4];
            Floats a[4] = {{0}}, b[4] = {{0}};
            for (int i = 0; i < 4; i++) key[i] = k + (size_t)at_most(s + i, tokens - 1) * stride;
            for (int j = 0; j < size; j += 2)
                for (int i = 0; i < 4; i++) {
                    a[i] += load(queries + LANES * j) * key[i][j];
                    b[i] += load(queries + LANES * (j + 1)) * key[i][j + 1];
                }
            for (int i = 0; i < at_most(4, tokens - s); i++) {
                store(weights + (size_t)LANES * (s + i), a[i] + b[i]);
                most = largest(most, a[i] + b[i]);
            }
        }
        for (int s = 0; s < tokens; s++) {
            const Floats e = exponential(load(weights + (size_t)LANES * s) - most);
            store(weights + (size_t)LANES * s, e);
            total += e;
        }
        const Floats inverse = 1.f / total;
        for (int t = 0; t < here; t += 4)
            for (int j = 0; j < size; j += LANES) {
                Floats mixed[4] = {{0}};
                for (int s = 0; s < tokens; s++) {
                    const Floats value = load(v + (size_t)s * stride + j);
                    for (int i = 0; i < 4; i++) mixed[i] += value * weights[(size_t)LANES * s + t + i];
                }
                for (int i = 0; i < at_most(4, here - t); i++)
                    store(w.out + (size_t)(first + t + i) * w.hidden + head * size + j, mixed[i] * inverse[t + i]);
            }
    }
}

static int widest(const Model *m) { return m->intermediate > 3 * m->hidden ? m->intermediate : 3 * m->hidden; }

/* Bytes of memory that `encode` needs for `tokens` in all and `longest` in one text. */
size_t memory_needed(const Model *m, int tokens, int longest) {
    size_t wide = widest(m), floats = (size_t)tokens * (2 * m->hidden + wide + wide / GROUP);
    return 4 * (floats + attention_memory(m, longest)) + tokens * wide;
}

/* Add tokens `from` to `to` of x up and bring the sum to length 1. */
static void pool(float *vector, const float *x, int from, int to, int size) {
    Floats squares = all(0);
    for (int j = 0; j < size; j += LANES) {
        Floats total = all(0);
        for (int t = from; t < to; t++) total += load(x + (size_t)t * size + j);
        store(vector + j, total);
        squares += total * total;
    }
    const float length = sqrtf(sum(squares));
    for (int j = 0; j < size; j += LANES) store(vector + j, load(vector + j) * (length > 0 ? 1.f / length : 0.f));
}

/* Texts → readings: three unit vectors of each, by the pooling, by the other one, and of the last token.
 *
 * team: may be NULL. ids: the tokens of all texts; text i has those from first[i] to first[i + 1]; none is empty or too
 * long. memory: aligned to 64 bytes. readings: (texts, 3, hidden).
 */
void encode(
    Team *team, const Model *m, const int32_t *ids, const int32_t *first, int texts, void *memory, float *readings) {
    const int tokens = first[texts], size = m->hidden, wide = widest(m);
    float *x = memory, *y = x + (size_t)tokens * size, *inner = y + (size_t)tokens * size;
    float *scale = inner + (size_t)tokens * wide, *attention = scale + (size_t)tokens * (wide / GROUP);
    int longest = 0;
    for (int i = 0; i < texts; i++) longest = first[i + 1] - first[i] > longest ? first[i + 1] - first[i] : longest;
    uint8_t *bytes = (uint8_t *)(attention + attention_memory(m, longest));
    team = called(team);

    for (int i = 0; i < texts; i++)
        for (int t = first[i]; t < first[i + 1]; t++) {
            const float *position = m->positions + (size_t)(t - first[i]) * size;
            float *here = x + (size_t)t * size;
            if (m->word_scale) {
                const int8_t *word = (const int8_t *)m->words + (size_t)ids[t] * size;
                for (int j = 0; j < size; j++) here[j] = word[j] * m->word_scale[ids[t]] + position[j];
            } else {
                const float *word = (const float *)m->words + (size_t)ids[t] * size;
                for (int j = 0; j < size; j++) here[j] = word[j] + position[j];
            }
        }
    add_and_norm(x, NULL, tokens, size, m->norm, m->epsilon);

    for (const Layer *l = m->layer; l < m->layer + m->layers; l++) {
        multiply(team, &l->qkv, ROTATED, x, tokens, bytes, scale, inner);
        for (int i = 0; i < texts; i++) {
            const Attending work = {inner + (size_t)first[i] * 3 * size, first[i + 1] - first[i], size, m->heads,
                                    y + (size_t)first[i] * size, attention};
            share(team, attend_head, &work, m->heads);
        }
        multiply(team, &l->joined, PLAIN, y, tokens, bytes, scale, inner);
        add_and_norm(x, inner, tokens, size, l->after_attention, m->epsilon);

        multiply(team, &l->inner, ROTATED, x, tokens, bytes, scale, inner);
        multiply(team, &l->outer, GELU_ROTATED, inner, tokens, bytes, scale, y);
        add_and_norm(x, y, tokens, size, l->after_feed_forward, m->epsilon);
    }

    dismissed(team);

    for (int i = 0; i < texts; i++) {
        float *reading = readings + (size_t)3 * i * size;
        const int begin = first[i], end = first[i + 1];
        pool(reading, x, begin, m->first_token_only ? begin + 1 : end, size);
        pool(reading + size, x, begin, m->first_token_only ? end : begin + 1, size);
        pool(reading + 2 * size, x, end - 1, end, size);
    }
}
