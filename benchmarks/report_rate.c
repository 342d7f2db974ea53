/* Reports metrics in a loop and prints how many per second.   report_rate STORAGE_PATH NAME COUNT */
#define _POSIX_C_SOURCE 199309L
#include <raystorage.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int failed(raystorage_error *error) {
  fprintf(stderr, "report_rate: %s\n", raystorage_error_message(error));
  return 1;
}

int main(int argument_count, char **arguments) {
  raystorage_error *error = NULL;
  raystorage_run *run = NULL;
  if (argument_count != 4) return 2;
  long count = atol(arguments[3]);
  if (raystorage_run_open(arguments[1], arguments[2], NULL, &run, &error)) return failed(error);
  double begin = now();
  for (long step = 0; step < count; step++) {
    char metrics[64];
    snprintf(metrics, sizeof metrics, "{\"step\":%ld,\"loss\":%.17g}", step, 0.125);
    if (raystorage_run_report(run, metrics, NULL, NULL, NULL, &error)) return failed(error);
  }
  printf("%.0f\n", (double)count / (now() - begin));
  if (raystorage_run_close(run, -1, &error)) return failed(error);
  raystorage_run_free(run);
  return 0;
}
