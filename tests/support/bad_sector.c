/* A disk with a bad sector, for LD_PRELOAD: whoever reads byte $BAD_SECTOR_AT of the file whose path ends with
   $BAD_SECTOR_IN gets EIO. What belongs here: the calls that Python reads files with. What does not: writing. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_bad(int handle, off_t offset, size_t size) {
    const char *end = getenv("BAD_SECTOR_IN"), *at = getenv("BAD_SECTOR_AT");
    char link[64], path[4096];
    if (!end || !at) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t tail = strlen(end);
    if ((size_t)length < tail || strcmp(path + length - tail, end)) return 0;
    off_t sector = atoll(at);
    return offset <= sector && sector < offset + (off_t)size;
}

#define REFUSE(handle, offset, size) \
    if (is_bad(handle, offset, size)) { errno = EIO; return -1; }
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int handle, void *buffer, size_t size) {
    REFUSE(handle, lseek(handle, 0, SEEK_CUR), size);
    return REAL(read)(handle, buffer, size);
}

ssize_t readv(int handle, const struct iovec *parts, int count) {
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    REFUSE(handle, lseek(handle, 0, SEEK_CUR), size);
    return REAL(readv)(handle, parts, count);
}

ssize_t pread(int handle, void *buffer, size_t size, off_t offset) {
    REFUSE(handle, offset, size);
    return REAL(pread)(handle, buffer, size, offset);
}

ssize_t pread64(int handle, void *buffer, size_t size, off_t offset) {
    REFUSE(handle, offset, size);
    return REAL(pread64)(handle, buffer, size, offset);
}
