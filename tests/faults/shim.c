/* Preloaded into a process under test: shifts its time of day, and fills its disk.
 *
 * SHIM_CONTROL names a file of two numbers of eight bytes that the test changes while the process runs: how far the time of
 * day is off, in milliseconds, and whether the disk is full. A full disk lets nothing grow: what stays within a file is
 * written, as on a real one. Only the time of day is shifted; the monotonic clock of a real machine does not jump either. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int64_t clock_offset_ms;
    volatile int64_t disk_full;
};

static struct control nothing;
static struct control *control = &nothing;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("SHIM_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        control = shared;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The time of day. */

static void shift(time_t *seconds, long *fraction, long per_millisecond)
{
    long second = 1000 * per_millisecond;
    *seconds += control->clock_offset_ms / 1000;
    *fraction += control->clock_offset_ms % 1000 * per_millisecond;
    if (*fraction < 0) {
        *fraction += second;
        *seconds -= 1;
    } else if (*fraction >= second) {
        *fraction -= second;
        *seconds += 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(&now->tv_sec, &now->tv_nsec, 1000000);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    REAL(gettimeofday);
    int failed = real(now, zone);
    if (!failed)
        shift(&now->tv_sec, &now->tv_usec, 1000);
    return failed;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

/* The disk. */

static int grows(int fd, off_t begin, size_t length)
{
    struct stat file;
    if (!control->disk_full || fstat(fd, &file) || !S_ISREG(file.st_mode))
        return 0;
    if (begin < 0)
        begin = fcntl(fd, F_GETFL) & O_APPEND ? file.st_size : lseek(fd, 0, SEEK_CUR);
    return begin + (off_t)length > file.st_size;
}

static size_t total(const struct iovec *parts, int count)
{
    size_t length = 0;
    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    return length;
}

#define REFUSE_IF_GROWING(fd, begin, length) \
    if (grows(fd, begin, length)) { \
        errno = ENOSPC; \
        return -1; \
    }

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    REFUSE_IF_GROWING(fd, -1, length);
    return real(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev);
    REFUSE_IF_GROWING(fd, -1, total(parts, count));
    return real(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t begin)
{
    REAL(pwrite);
    REFUSE_IF_GROWING(fd, begin, length);
    return real(fd, bytes, length, begin);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t begin)
{
    REAL(pwrite64);
    REFUSE_IF_GROWING(fd, begin, length);
    return real(fd, bytes, length, begin);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t begin)
{
    REAL(pwritev);
    REFUSE_IF_GROWING(fd, begin, total(parts, count));
    return real(fd, parts, count, begin);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t begin)
{
    REAL(pwritev64);
    REFUSE_IF_GROWING(fd, begin, total(parts, count));
    return real(fd, parts, count, begin);
}

/* These return the error, and set nothing. */
int posix_fallocate(int fd, off_t begin, off_t length)
{
    REAL(posix_fallocate);
    return grows(fd, begin, (size_t)length) ? ENOSPC : real(fd, begin, length);
}

int posix_fallocate64(int fd, off64_t begin, off64_t length)
{
    REAL(posix_fallocate64);
    return grows(fd, begin, (size_t)length) ? ENOSPC : real(fd, begin, length);
}

int fallocate(int fd, int mode, off_t begin, off_t length)
{
    REAL(fallocate);
    REFUSE_IF_GROWING(fd, begin, (size_t)length);
    return real(fd, mode, begin, length);
}
