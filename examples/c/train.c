/*
 * A training loop in C that survives being killed: logistic regression on a small data set made here, with the metrics
 * of every step and a checkpoint of every epoch in a run of raystorage. Start it, kill it at any moment, start it again:
 * it goes on from the last committed epoch, and ends with the same weights, bit for bit, as a run that nobody killed.
 *
 *   train [STORAGE_PATH [EPOCHS [EPOCH_MS]]]
 *
 *   STORAGE_PATH  where runs lie; default: $RAYSTORAGE_STORAGE_PATH, else ~/ray_results
 *   EPOCHS        default 20
 *   EPOCH_MS      an epoch takes at least this long, to leave time for killing it; default 0
 *
 * Build against an installed copy:
 *
 *   cc -std=c99 train.c -o train $(pkg-config --cflags --libs raystorage) -lm
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <raystorage.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FEATURES = 4, SAMPLES = 512, BATCH = 32 };

/* Where each checkpoint is written before it is reported. */
#define WORK "train-checkpoint"

static double inputs[SAMPLES][FEATURES];
static int labels[SAMPLES];

/* Everything that the next step depends on: what a checkpoint must hold. */
struct state {
  double weights[FEATURES + 1]; /* the last one is the bias */
  double velocity[FEATURES + 1];
  uint64_t random; /* of the order of the data */
  int next_epoch;
};

/* ------------------------------------------------------------------- the model */

static uint64_t random_next(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15)); /* splitmix64 */
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

static void make_data(void) {
  uint64_t random = 1;
  for (int i = 0; i < SAMPLES; i++) {
    double score = 0.3;
    for (int k = 0; k < FEATURES; k++) {
      inputs[i][k] = (double)(random_next(&random) >> 11) / 9007199254740992.0 - 0.5;
      score += inputs[i][k] * (k % 2 ? -3.0 : 2.0);
    }
    double noise = (double)(random_next(&random) >> 11) / 9007199254740992.0 - 0.5;
    labels[i] = score + noise > 0;
  }
}

static double predict(const struct state *state, int i) {
  double sum = state->weights[FEATURES];
  for (int k = 0; k < FEATURES; k++) sum += state->weights[k] * inputs[i][k];
  return 1.0 / (1.0 + exp(-sum));
}

/* One step of gradient descent with momentum on a batch of shuffled samples. Returns the loss. */
static double train_step(struct state *state, const int *batch) {
  double gradient[FEATURES + 1] = {0}, loss = 0;
  for (int b = 0; b < BATCH; b++) {
    int i = batch[b];
    double p = predict(state, i), error = p - labels[i];
    for (int k = 0; k < FEATURES; k++) gradient[k] += error * inputs[i][k] / BATCH;
    gradient[FEATURES] += error / BATCH;
    loss -= log(labels[i] ? p : 1 - p) / BATCH;
  }
  for (int k = 0; k <= FEATURES; k++) {
    state->velocity[k] = 0.9 * state->velocity[k] - 0.3 * gradient[k];
    state->weights[k] += state->velocity[k];
  }
  return loss;
}

static void shuffle(struct state *state, int *order) {
  for (int i = 0; i < SAMPLES; i++) order[i] = i;
  for (int i = SAMPLES - 1; i > 0; i--) {
    int j = (int)(random_next(&state->random) % (uint64_t)(i + 1)), kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
}

static double accuracy(const struct state *state) {
  int right = 0;
  for (int i = 0; i < SAMPLES; i++) right += (predict(state, i) > 0.5) == labels[i];
  return (double)right / SAMPLES;
}

/* ------------------------------------------------- the checkpoint: one small file */

/* Numbers in hexadecimal, so that they come back exactly. */
static FILE *open_model(const char *directory, const char *mode) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/model.txt", directory);
  if (length < 0 || (size_t)length >= sizeof path) {
    errno = ENAMETOOLONG;
    return NULL;
  }
  return fopen(path, mode);
}

static int save(const struct state *state, const char *directory) {
  FILE *file = open_model(directory, "w");
  if (!file) return -1;
  fprintf(file, "%d %" PRIu64 "\n", state->next_epoch, state->random);
  for (int k = 0; k <= FEATURES; k++) fprintf(file, "%a %a\n", state->weights[k], state->velocity[k]);
  int failed = ferror(file);
  return fclose(file) != 0 || failed ? -1 : 0;
}

static int load(struct state *state, const char *directory) {
  FILE *file = open_model(directory, "r");
  if (!file) return -1;
  int good = fscanf(file, "%d %" SCNu64, &state->next_epoch, &state->random) == 2;
  for (int k = 0; k <= FEATURES && good; k++)
    good = fscanf(file, "%lf %lf", &state->weights[k], &state->velocity[k]) == 2;
  fclose(file);
  if (!good) errno = EINVAL;
  return good ? 0 : -1;
}

/* ------------------------------------------------------------ raystorage's errors */

/* Prints an error, frees it, and ends the program. What was captured before is finished by the next start. */
static void give_up(const char *what, raystorage_error *error) {
  fprintf(stderr, "%s: %s (%s) %s\n", what, raystorage_error_message(error),
          raystorage_status_name(raystorage_error_code(error)), raystorage_error_details_json(error));
  raystorage_error_free(error);
  exit(1);
}

/* Waits for an operation, and returns the JSON document that it yields: to be freed with raystorage_string_free(). */
static char *finish(const char *what, raystorage_operation *operation) {
  raystorage_error *error = NULL;
  char *json = NULL;
  if (raystorage_operation_wait(operation, -1, &error) != RAYSTORAGE_OK ||
      raystorage_operation_result(operation, &json, &error) != RAYSTORAGE_OK)
    give_up(what, error);
  raystorage_operation_free(operation);
  return json;
}

/* Copies the text behind "key": out of a JSON document. Enough for the paths of this example; a trainer with a JSON
 * library uses that. Returns 0 when there is no such text, as in the document `null`. */
static int json_text(const char *json, const char *key, char *out, size_t size) {
  char pattern[64];
  snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
  const char *start = strstr(json, pattern);
  if (!start) return 0;
  start += strlen(pattern);
  size_t length = strcspn(start, "\"");
  if (length >= size || memchr(start, '\\', length)) return 0;
  memcpy(out, start, length);
  out[length] = 0;
  return 1;
}

/* ----------------------------------------------------------------------- the loop */

/* Goes on from the latest committed checkpoint, if there is one. */
static void resume(raystorage_run *run, struct state *state) {
  raystorage_error *error = NULL;
  raystorage_operation *operation = NULL;
  if (raystorage_run_get_checkpoint_start(run, &operation, &error) != RAYSTORAGE_OK) give_up("get_checkpoint", error);
  char *checkpoint = finish("get_checkpoint", operation); /* verified byte for byte; "null" on a fresh run */
  char path[4096], local[4096];
  if (!json_text(checkpoint, "path", path, sizeof path)) {
    printf("a fresh run\n");
    raystorage_string_free(checkpoint);
    return;
  }
  raystorage_string_free(checkpoint);
  /* A directory to read in: the checkpoint itself on a local disk, a copy that is shared on this machine otherwise. */
  if (raystorage_checkpoint_acquire_start(path, NULL, NULL, &operation, &error) != RAYSTORAGE_OK)
    give_up("acquire", error);
  char *lease = finish("acquire", operation), id[256];
  if (!json_text(lease, "path", local, sizeof local) || load(state, local) != 0) {
    fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
    exit(1);
  }
  if (json_text(lease, "lease", id, sizeof id)) raystorage_checkpoint_release(id, NULL);
  raystorage_string_free(lease);
  printf("resumed from %s, at epoch %d\n", strrchr(path, '/') + 1, state->next_epoch);
}

/* Reports the metrics of a step. They are in the run's log when this returns. */
static void report_step(raystorage_run *run, int epoch, int step, double loss) {
  char metrics[128];
  raystorage_error *error = NULL;
  snprintf(metrics, sizeof metrics, "{\"epoch\":%d,\"step\":%d,\"loss\":%.17g}", epoch, step, loss);
  if (raystorage_run_report(run, metrics, NULL, NULL, NULL, &error) != RAYSTORAGE_OK) give_up("report", error);
}

/* Reports a checkpoint. ASYNC: it is captured when this returns, so the directory is ours again, and committed a little
 * later; SYNC: it is committed. An ASYNC report that fails afterwards is told by the next report or by the end. */
static void report_epoch(raystorage_run *run, const struct state *state, double loss, uint32_t upload_mode) {
  char metrics[128];
  raystorage_error *error = NULL;
  raystorage_report_options options = RAYSTORAGE_REPORT_OPTIONS_INIT;
  options.upload_mode = upload_mode;
  if (save(state, WORK) != 0) {
    fprintf(stderr, "cannot write into %s: %s\n", WORK, strerror(errno));
    exit(1);
  }
  snprintf(metrics, sizeof metrics, "{\"epoch\":%d,\"mean_loss\":%.17g,\"accuracy\":%.6f}", state->next_epoch - 1, loss,
           accuracy(state));
  if (raystorage_run_report(run, metrics, WORK, &options, NULL, &error) != RAYSTORAGE_OK) give_up("report", error);
}

static double train_epoch(raystorage_run *run, struct state *state) {
  int order[SAMPLES];
  double sum = 0;
  shuffle(state, order);
  for (int step = 0; step < SAMPLES / BATCH; step++) {
    double loss = train_step(state, order + (size_t)step * BATCH);
    report_step(run, state->next_epoch, step, loss);
    sum += loss;
  }
  state->next_epoch++;
  return sum / (SAMPLES / BATCH);
}

static void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&pause, NULL);
}

int main(int count, char **arguments) {
  const char *storage_path = count > 1 ? arguments[1] : NULL;
  int epochs = count > 2 ? atoi(arguments[2]) : 20;
  long epoch_ms = count > 3 ? atol(arguments[3]) : 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (raystorage_abi_version() != RAYSTORAGE_ABI_VERSION) {
    fprintf(stderr, "libraystorage is another version than raystorage.h\n");
    return 1;
  }

  raystorage_error *error = NULL;
  raystorage_run *run = NULL;
  raystorage_run_options options = RAYSTORAGE_RUN_OPTIONS_INIT;
  options.num_to_keep = 3;
  options.checkpoint_score_attribute = "mean_loss";
  options.checkpoint_score_order = "min";
  if (raystorage_run_open(storage_path, "example-c", &options, &run, &error) != RAYSTORAGE_OK)
    give_up("cannot open the run", error);
  printf("run %s\n", raystorage_run_path(run));

  if (mkdir(WORK, 0777) != 0 && errno != EEXIST) {
    perror(WORK);
    return 1;
  }
  make_data();
  struct state state = {{0}, {0}, 42, 0};
  resume(run, &state);
  while (state.next_epoch < epochs) {
    double loss = train_epoch(run, &state);
    sleep_ms(epoch_ms);
    int is_last = state.next_epoch == epochs;
    report_epoch(run, &state, loss, is_last ? RAYSTORAGE_UPLOAD_SYNC : RAYSTORAGE_UPLOAD_ASYNC);
    printf("epoch %2d  loss %.6f  accuracy %.3f  %s\n", state.next_epoch - 1, loss, accuracy(&state),
           is_last ? "committed" : "captured");
  }

  /* Waits for what is on its way, and lets go of the run: the next trainer need not wait for a heartbeat. */
  if (raystorage_run_close(run, 60000, &error) != RAYSTORAGE_OK) give_up("close", error);
  raystorage_run_free(run);
  remove(WORK "/model.txt");
  rmdir(WORK);
  printf("weights");
  for (int k = 0; k <= FEATURES; k++) printf(" %a", state.weights[k]);
  printf("\naccuracy %.3f after %d epochs\n", accuracy(&state), state.next_epoch);
  return 0;
}
