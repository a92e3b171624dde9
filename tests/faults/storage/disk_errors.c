/* LD_PRELOAD: counts the writes and flushes of files whose path begins with $DISK_ERRORS_PATH, and lets chosen ones
 * fail. $DISK_ERRORS_CONTROL is a file that is mapped: the test reads the count there, and says which operations fail
 * (`first` <= number < `last`, 1-based) and how, also while the program runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITES = 1, FLUSHES = 2, KILL = -1, TEAR = -2 };

struct control {
    uint64_t count, first, last;
    int32_t kinds; /* which operations count: WRITES | FLUSHES */
    int32_t act;   /* an errno; KILL: die instead; TEAR: write half, then die */
};

static struct control *control;
static char prefix[PATH_MAX], mapped_path[PATH_MAX];

/* Asked at each operation and not at the start: a process that was forked warm has its environment only later. */
static void open_control(void) {
    const char *path = getenv("DISK_ERRORS_CONTROL"), *files = getenv("DISK_ERRORS_PATH");
    if (!path || !files || strlen(path) >= PATH_MAX || strlen(files) >= PATH_MAX) return;
    if (control && !strcmp(path, mapped_path) && !strcmp(files, prefix)) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) return;
    strcpy(prefix, files);
    strcpy(mapped_path, path);
    control = mapped;
}

static int is_ours(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* Returns 0 to go on, else what is to be done in place of the operation. */
static int judge(int fd, int kind) {
    open_control();
    if (!control || !(control->kinds & kind) || !is_ours(fd)) return 0;
    uint64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    return number >= control->first && number < control->last ? control->act : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAIL_INSTEAD(kind, half)                       \
    int act = judge(fd, kind);                         \
    if (act == TEAR) { half; }                         \
    if (act < 0) kill(getpid(), SIGKILL);              \
    if (act > 0) { errno = act; return -1; }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    FAIL_INSTEAD(WRITES, REAL(pwrite)(fd, data, size / 2, at))
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAIL_INSTEAD(WRITES, REAL(pwrite64)(fd, data, size / 2, at))
    return REAL(pwrite64)(fd, data, size, at);
}
ssize_t write(int fd, const void *data, size_t size) {
    FAIL_INSTEAD(WRITES, REAL(write)(fd, data, size / 2))
    return REAL(write)(fd, data, size);
}
int ftruncate(int fd, off_t size) {
    FAIL_INSTEAD(WRITES, )
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    FAIL_INSTEAD(WRITES, )
    return REAL(ftruncate64)(fd, size);
}
int fsync(int fd) {
    FAIL_INSTEAD(FLUSHES, )
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    FAIL_INSTEAD(FLUSHES, )
    return REAL(fdatasync)(fd);
}
