/* A host that forks while the library is used for the first time: forker STORAGE_PATH FORKS
 *
 * In those milliseconds the threads make types, connections and threads of their own for the first time, under locks of
 * Swift's runtime that a child would never see released. Each child opens a run, reports and closes. Prints how long the
 * longest fork() took, in microseconds; exits 1 when a child failed, 2 when one hangs. */
#define _GNU_SOURCE
#include <raystorage.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *storage;

static void fail(const char *what, raystorage_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? raystorage_error_message(error) : strerror(errno));
    _exit(1);
}

static void make_source(char *path, const char *name, size_t size) {
    static char bytes[1 << 16];
    char file[4200];
    snprintf(path, 4096, "%s/source-%s", storage, name);
    snprintf(file, sizeof file, "%s/model.bin", path);
    if (mkdir(path, 0777) != 0) fail(path, NULL);
    int fd = open(file, O_CREAT | O_WRONLY, 0666);
    for (size_t done = 0; done < size; done += sizeof bytes) {
        if (write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes) fail(file, NULL);
    }
    close(fd);
}

/* The report is waited for by the child, and not by the parent, which forks meanwhile. */
static raystorage_run *begin(const char *name, size_t size, raystorage_report **report) {
    raystorage_error *error = NULL;
    raystorage_run *run = NULL;
    raystorage_run_options options = RAYSTORAGE_RUN_OPTIONS_INIT;
    raystorage_report_options how = RAYSTORAGE_REPORT_OPTIONS_INIT;
    char source[4096];
    if (raystorage_run_open(storage, name, &options, &run, &error) != RAYSTORAGE_OK) fail("open", error);
    make_source(source, name, size);
    if (raystorage_run_report_start(run, "{\"step\": 1}", source, &how, report, &error) != RAYSTORAGE_OK)
        fail("report", error);
    return run;
}

static void end(raystorage_run *run, raystorage_report *report) {
    raystorage_error *error = NULL;
    if (raystorage_report_wait(report, -1, &error) != RAYSTORAGE_OK) fail("wait", error);
    if (raystorage_run_close(run, -1, &error) != RAYSTORAGE_OK) fail("close", error);
}

static long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

/* The library's first use, beside the forks. */
static void *train(void *unused) {
    raystorage_report *report = NULL;
    raystorage_run *run = begin("parent", 8 << 20, &report);
    end(run, report);
    raystorage_run_free(run);
    return unused;
}

static void train_as_child(int number) {
    /* One that hangs dies of it, and is seen. */
    alarm(120);
    char name[32];
    snprintf(name, sizeof name, "child-%d", number);
    raystorage_report *report = NULL;
    raystorage_run *run = begin(name, 1 << 16, &report);
    end(run, report);
    _exit(0);
}

int main(int count, char **arguments) {
    if (count != 3) return 64;
    storage = arguments[1];
    int forks = atoi(arguments[2]), failed = 0, hanging = 0;
    long longest = 0;
    if (mkdir(storage, 0777) != 0) fail(storage, NULL);
    pthread_t trainer;
    if (pthread_create(&trainer, NULL, train, NULL) != 0) fail("pthread_create", NULL);
    for (int number = 0; number < forks; number++) {
        /* Forks are to meet every moment of it. */
        usleep(200);
        long begun = microseconds();
        pid_t child = fork();
        if (child < 0) fail("fork", NULL);
        if (child == 0) train_as_child(number);
        if (microseconds() - begun > longest) longest = microseconds() - begun;
    }
    for (int status; wait(&status) > 0;) {
        if (WIFSIGNALED(status)) hanging++;
        else if (status != 0) failed++;
    }
    pthread_join(trainer, NULL);
    printf("%ld\n", longest);
    if (hanging) fprintf(stderr, "%d of %d children hung\n", hanging, forks);
    return hanging ? 2 : failed ? 1 : 0;
}
