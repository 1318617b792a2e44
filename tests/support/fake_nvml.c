/* A stand-in for NVIDIA's libnvidia-ml.so.1 with the calls that resources.hardware makes.
 *
 * What belongs here: answers of a machine with FAKE_GPUS GPUs (from the environment; "broken" fails the count), the second
 * of which tells no power limit. What does not: anything of the product's.
 */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, UNKNOWN = 999 };

typedef struct { unsigned long long total, free, used; } memory_t;

static const char *gpus(void) { const char *n = getenv("FAKE_GPUS"); return n ? n : "0"; }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == UNKNOWN ? "Unknown Error" : "Not Supported"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.1", size); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!strcmp(gpus(), "broken")) return UNKNOWN;
    *count = (unsigned)atoi(gpus());
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(size_t)(index + 1); return OK; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { (void)device; strncpy(text, "Fake H200", size); return OK; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) { (void)device; memory->total = 1ull << 37; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
    if ((size_t)device == 2) return NOT_SUPPORTED;
    *milliwatts = 700000;
    return OK;
}
