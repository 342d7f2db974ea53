/*
 * The smallest program whose promises a power cut can break; it proves that the virtual machine finds broken ones.
 *
 *   diskwriter write DIR careful|careless FROM    writes DIR/<n> for n = FROM, FROM+1, ...; says "durable <n>" after each
 *                                                 careful: fsync of file and directory; careless: neither
 *   diskwriter check DIR                          says "have <n>" for each file that is whole
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 20000 };

static void fill(char *buffer, long number) {
  for (int i = 0; i < SIZE; i++) buffer[i] = (char)(number * 31 + i * 7);
}

int main(int count, char **arguments) {
  static char have[SIZE + 1], want[SIZE];
  char path[4096];
  if (count < 3) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(arguments[1], "check") == 0) {
    DIR *directory = opendir(arguments[2]);
    if (!directory) return 1;
    for (struct dirent *entry; (entry = readdir(directory));) {
      snprintf(path, sizeof path, "%s/%s", arguments[2], entry->d_name);
      int fd = open(path, O_RDONLY);
      long number = atol(entry->d_name);
      fill(want, number);
      if (*entry->d_name != '.' && read(fd, have, sizeof have) == SIZE && memcmp(have, want, SIZE) == 0) printf("have %ld\n", number);
      close(fd);
    }
    return 0;
  }
  if (count < 5) return 2;
  int careful = strcmp(arguments[3], "careful") == 0;
  for (long number = atol(arguments[4]);; number++) {
    snprintf(path, sizeof path, "%s/%ld", arguments[2], number);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), directory = open(arguments[2], O_RDONLY);
    fill(want, number);
    if (write(fd, want, SIZE) != SIZE) return 1;
    if (careful && (fsync(fd) != 0 || fsync(directory) != 0)) return 1;
    close(fd), close(directory);
    printf("durable %ld\n", number);
    usleep(20000);
  }
}
