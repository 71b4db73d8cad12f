// Shifts the clock of the processes that load it, for test/run --clock: LD_PRELOAD=build/test/clock.so. The
// file MAU_CLOCK_FILE holds the number of seconds to add; a test may rewrite it in place.
//
// libfaketime does not serve: while a wait is interrupted it answers with the real time, so that the timeouts
// of PostgreSQL, whose signal handler reads the clock, never come.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char* shift = "0";

__attribute__((constructor)) static void map_shift(void) {
    const char* name = getenv("MAU_CLOCK_FILE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void* page = mmap(NULL, 32, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) shift = page;
}

int clock_gettime(clockid_t clock, struct timespec* t) {
    int result = (int)syscall(SYS_clock_gettime, clock, t);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        t->tv_sec += strtol(shift, NULL, 10);
    return result;
}

int gettimeofday(struct timeval* restrict t, void* restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t* t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
