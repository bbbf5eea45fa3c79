/* Stops the clock of the day at STOPPED_CLOCK, in seconds since 1970: to be preloaded (LD_PRELOAD). Other
 * clocks go on, so that timers and waits work. It asks the kernel directly: it may be called before
 * anything else of the process works, which is where libfaketime hangs Envoy. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t stopped(void) {
  const char *text = getenv("STOPPED_CLOCK");
  return text ? (time_t)atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
    now->tv_sec = stopped();
    now->tv_nsec = 0;
    return 0;
  }
  return (int)syscall(SYS_clock_gettime, clock, now);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  now->tv_sec = stopped();
  now->tv_usec = 0;
  return 0;
}

time_t time(time_t *now) {
  time_t value = stopped();
  if (now) *now = value;
  return value;
}
