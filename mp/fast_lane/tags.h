/* Tags of HMAC-SHA-256 (RFC 2104), of which the leftmost 128 bits are sent. */

#include <dlfcn.h>

#define TAG_OCTETS 16
#define DIGEST 32
#define BLOCK 64

/* SHA256_CTX of <openssl/sha.h>, the same since 0.9.8. The library is the one that hashlib has loaded; so building
   needs no headers of it, and where it lacks the functions the module cannot be imported. */
typedef struct {
    uint32_t state[8], low, high, data[16];
    unsigned int used, digest_length;
} Sha256;

static int (*sha256_init)(Sha256 *);
static int (*sha256_update)(Sha256 *, const void *, size_t);
static int (*sha256_final)(unsigned char *, Sha256 *);

typedef struct {
    Sha256 inner, outer;    /* behind the padded secret (RFC 2104) */
} Secret;

/* dlsym gives a pointer to an object; POSIX lets it be taken for one to a function. */
static bool load(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static void tag_text(const Secret *secret, Sha256 *running, uint8_t *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t digest[DIGEST + 2];
    Sha256 outer = secret->outer;
    sha256_final(digest, running);
    sha256_update(&outer, digest, DIGEST);
    sha256_final(digest, &outer);
    digest[TAG_OCTETS] = digest[TAG_OCTETS + 1] = 0;
    for (int i = 0; i < TAG_TEXT; i++) {
        int bit = i * 6, octet = bit / 8;
        unsigned two = (unsigned)(digest[octet] << 8 | digest[octet + 1]);
        text[i] = (uint8_t)digits[two >> (10 - bit % 8) & 63];
    }
}

static bool is_right(const Secret *secret, Sha256 *running, const Text *tag)
{
    uint8_t text[TAG_TEXT], differs = 0;
    tag_text(secret, running, text);
    for (int i = 0; i < TAG_TEXT; i++)
        differs |= text[i] ^ tag->at[i];
    return differs == 0;
}
