/* A stand-in for NVIDIA's libnvidia-ml.so.1 with the calls that resources.hardware, resources.machine_watch, edge.gpu_signs and the inference tier's energy make.
 *
 * What belongs here: answers of a machine with FAKE_GPUS GPUs (from the environment; "broken" fails the count), the second
 * of which tells no power limit and the third neither power nor energy; the second is slowed for its temperature when FAKE_HOT is set;
 * FAKE_GPU_BYTES is the memory of each ("untold" tells none); FAKE_GPU_WORK is "PID:PERCENT", the process that every GPU computes for.
 * What does not: anything of the product's.
 */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

typedef struct { unsigned long long total, free, used; } memory_t;

static const char *gpus(void) { const char *n = getenv("FAKE_GPUS"); return n ? n : "0"; }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == UNKNOWN ? "Unknown Error" : "Not Supported"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.1", size); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!strcmp(gpus(), "broken")) return UNKNOWN;
    *count = (unsigned)atoi(gpus());
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(size_t)(index + 1); return OK; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { (void)device; strncpy(text, "Fake H200", size); return OK; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    const char *bytes = getenv("FAKE_GPU_BYTES");
    (void)device;
    if (bytes && !strcmp(bytes, "untold")) return NOT_SUPPORTED;
    memory->total = bytes ? strtoull(bytes, NULL, 10) : 1ull << 37;
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
    if ((size_t)device == 2) return NOT_SUPPORTED;
    *milliwatts = 700000;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    if ((size_t)device == 3) return NOT_SUPPORTED;
    *milliwatts = 120500;
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    static unsigned long long asked = 0;
    if ((size_t)device == 3) return NOT_SUPPORTED;
    *millijoules = 2500 * ++asked;
    return OK;
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    *celsius = 40 + 10 * (unsigned)(size_t)device + sensor;
    return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    *reasons = (size_t)device == 2 && getenv("FAKE_HOT") ? 0x40 : 0x1;
    return OK;
}

typedef struct { unsigned pid; unsigned long long at_us; unsigned sm, memory, encoder, decoder; } utilization_t;

int nvmlDeviceGetProcessUtilization(void *device, utilization_t *samples, unsigned *count, unsigned long long since_us) {
    const char *work = getenv("FAKE_GPU_WORK");
    char *rest;
    (void)device;
    if (!work) return NOT_FOUND;
    if (!samples) { *count = 1; return INSUFFICIENT_SIZE; }
    memset(samples, 0, sizeof *samples);
    samples->pid = (unsigned)strtoul(work, &rest, 10);
    samples->at_us = since_us;
    samples->sm = (unsigned)strtoul(rest + 1, NULL, 10);
    *count = 1;
    return OK;
}
