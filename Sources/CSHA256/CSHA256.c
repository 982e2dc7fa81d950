#include "CSHA256.h"

#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define BLOCK 64

// FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes.
static const uint32_t constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// The working variables a to h as SHA256RNDS2 wants them, the first named in the highest place (Intel 64
// and IA-32 Architectures Software Developer's Manual, volume 2).
struct state {
    __m128i abef;
    __m128i cdgh;
};

// FIPS 180-4, 5.3.3.
static struct state initial_state(void) {
    struct state state = {
        _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
        _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19),
    };
    return state;
}

// Four words of the message schedule from the sixteen before them (FIPS 180-4, 6.2.2, step 1).
#define NEXT_WORDS(words, step)                                                                     \
    _mm_sha256msg2_epu32(                                                                           \
        _mm_add_epi32(_mm_sha256msg1_epu32(words[(step) & 3], words[((step) + 1) & 3]),             \
                      _mm_alignr_epi8(words[((step) + 3) & 3], words[((step) + 2) & 3], 4)),        \
        words[((step) + 3) & 3])

// FIPS 180-4, 6.2.2, for whole blocks of both messages.
__attribute__((target("sha,sse4.1"))) static void compress(struct state *one, struct state *other,
                                                           const uint8_t *bytes,
                                                           const uint8_t *other_bytes,
                                                           size_t count) {
    // The words of a message are big-endian.
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    struct state a = *one, b = *other;
    for (; count > 0; count--, bytes += BLOCK, other_bytes += BLOCK) {
        const struct state a_before = a, b_before = b;
        __m128i v[4], w[4];
        for (int i = 0; i < 4; i++) {
            v[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)bytes + i), swap);
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)other_bytes + i), swap);
        }
#pragma GCC unroll 16
        for (int step = 0; step < 16; step++) {
            const __m128i k = _mm_load_si128((const __m128i *)constants + step);
            __m128i vk = _mm_add_epi32(v[step & 3], k);
            __m128i wk = _mm_add_epi32(w[step & 3], k);
            a.cdgh = _mm_sha256rnds2_epu32(a.cdgh, a.abef, vk);
            b.cdgh = _mm_sha256rnds2_epu32(b.cdgh, b.abef, wk);
            vk = _mm_shuffle_epi32(vk, 0x0e);
            wk = _mm_shuffle_epi32(wk, 0x0e);
            a.abef = _mm_sha256rnds2_epu32(a.abef, a.cdgh, vk);
            b.abef = _mm_sha256rnds2_epu32(b.abef, b.cdgh, wk);
            if (step < 12) {
                v[step & 3] = NEXT_WORDS(v, step);
                w[step & 3] = NEXT_WORDS(w, step);
            }
        }
        a.abef = _mm_add_epi32(a.abef, a_before.abef);
        a.cdgh = _mm_add_epi32(a.cdgh, a_before.cdgh);
        b.abef = _mm_add_epi32(b.abef, b_before.abef);
        b.cdgh = _mm_add_epi32(b.cdgh, b_before.cdgh);
    }
    *one = a;
    *other = b;
}

// The last bytes of a message with its padding (FIPS 180-4, 5.1.1); gives their length, one block or two.
static size_t pad(const uint8_t *message, size_t length, uint8_t padded[2 * BLOCK]) {
    const size_t rest = length % BLOCK;
    const size_t end = rest + 1 + sizeof(uint64_t) <= BLOCK ? BLOCK : 2 * BLOCK;
    const uint64_t bits = __builtin_bswap64((uint64_t)length * 8);
    memset(padded, 0, 2 * BLOCK);
    if (rest > 0) memcpy(padded, message + length - rest, rest);
    padded[rest] = 0x80;
    memcpy(padded + end - sizeof(bits), &bits, sizeof(bits));
    return end;
}

static void store(struct state state, uint8_t *digest) {
    uint32_t feba[4], hgdc[4];
    memcpy(feba, &state.abef, sizeof(feba));
    memcpy(hgdc, &state.cdgh, sizeof(hgdc));
    const uint32_t words[8] = {feba[3], feba[2], hgdc[3], hgdc[2],
                               feba[1], feba[0], hgdc[1], hgdc[0]};
    for (int i = 0; i < 8; i++) {
        const uint32_t word = __builtin_bswap32(words[i]);
        memcpy(digest + 4 * i, &word, sizeof(word));
    }
}

// Whether there are SSSE3, SSE4.1 and the SHA extensions.
static int is_supported(void) {
    unsigned int a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

int rfs_sha256_two(const void *one, const void *other, size_t length, uint8_t *digest_of_one,
                   uint8_t *digest_of_other) {
    // CPUID leaves a virtual machine each time; all threads find the same.
    static _Atomic int known = -1;
    if (known < 0) known = is_supported();
    if (!known) return 0;
    struct state a = initial_state(), b = initial_state();
    compress(&a, &b, one, other, length / BLOCK);
    uint8_t end_of_one[2 * BLOCK], end_of_other[2 * BLOCK];
    const size_t end = pad(one, length, end_of_one);
    pad(other, length, end_of_other);
    compress(&a, &b, end_of_one, end_of_other, end / BLOCK);
    store(a, digest_of_one);
    store(b, digest_of_other);
    return 1;
}

#else

int rfs_sha256_two(const void *one, const void *other, size_t length, uint8_t *digest_of_one,
                   uint8_t *digest_of_other) {
    (void)one, (void)other, (void)length, (void)digest_of_one, (void)digest_of_other;
    return 0;
}

#endif
