/* Loaded into a node with LD_PRELOAD: the clocks that it reads are shifted by what stands in a
 * file, which the nemesis writes. The file is mapped, so that a running node sees each change at
 * once, and it counts the shifted answers, so that the nemesis sees that they were given. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <dlfcn.h>

/* All in the byte order of the machine, which the nemesis checks to be little-endian. */
struct shifts {
    _Atomic int64_t wall_ns;
    _Atomic int64_t monotonic_ns;
    _Atomic uint64_t wall_readings;
    _Atomic uint64_t monotonic_readings;
};

static struct shifts *shifts;
static int (*next)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NEMESIS_CLOCK");
    next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (path == NULL) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct shifts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) shifts = mapped;
}

static void shift(struct timespec *time, int64_t by_ns) {
    int64_t ns = time->tv_nsec + by_ns % 1000000000;
    time->tv_sec += by_ns / 1000000000;
    if (ns < 0) { ns += 1000000000; time->tv_sec -= 1; }
    if (ns >= 1000000000) { ns -= 1000000000; time->tv_sec += 1; }
    time->tv_nsec = ns;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = next != NULL ? next(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
    if (result != 0 || shifts == NULL) return result;
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int is_monotonic = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
                       clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
    int64_t by = is_wall ? shifts->wall_ns : is_monotonic ? shifts->monotonic_ns : 0;
    if (by != 0) {
        shift(time, by);
        (is_wall ? &shifts->wall_readings : &shifts->monotonic_readings)[0]++;
    }
    return result;
}
