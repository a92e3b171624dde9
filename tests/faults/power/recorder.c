/* Records what a process does to the files of one folder, in order: for LD_PRELOAD, see recording.py.
 *
 * POWER_FOLDER: the folder, absolute and without links. POWER_LOG: where to write the records (elsewhere).
 * POWER_FLUSH_US: how long a flush takes, so that what waits meanwhile shares the next commit, as on a disk.
 *
 * Writes are recorded once done, under one lock, so the order is that of the files. A flush is recorded when it
 * begins and when it has ended: it promises what was written before it began. Memory maps are not seen; SQLite
 * maps only the WAL-index, which a restart builds anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 65536
#define REAL(type, name, ...)                           \
    static type (*real)(__VA_ARGS__);                   \
    if (!real)                                          \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

struct header { /* recording.py reads "<ciqI" after it */
    char kind;
    int32_t fd;
    int64_t offset;
    uint32_t length;
} __attribute__((packed));

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static unsigned char watched[MOST_FDS];
static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static useconds_t flush_us;

/* Asked at each opening and not at the start: a process that was forked warm has its environment only later. */
static void start(void) {
    if (log_fd >= 0)
        return;
    const char *where = getenv("POWER_FOLDER"), *log = getenv("POWER_LOG"), *flush = getenv("POWER_FLUSH_US");
    if (!where || !log || strlen(where) >= sizeof folder)
        return;
    strcpy(folder, where);
    folder_length = strlen(folder);
    flush_us = flush ? (useconds_t)atoi(flush) : 0;
    REAL(int, "open64", const char *, int, ...);
    log_fd = real(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        _exit(97);
}

static void record(char kind, int fd, int64_t offset, const void *data, size_t length) {
    struct header header = {kind, fd, offset, (uint32_t)length};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, length}};
    if (writev(log_fd, parts, length ? 2 : 1) != (ssize_t)(sizeof header + length))
        _exit(98); /* a log with a hole would prove nothing */
}

static int is_watched(int fd) { return log_fd >= 0 && fd >= 0 && fd < MOST_FDS && watched[fd]; }

/* The name of a path inside the folder, "." for the folder itself, NULL for what lies elsewhere. */
static const char *name_inside(const char *path) {
    if (log_fd < 0 || strncmp(path, folder, folder_length))
        return NULL;
    const char *rest = path + folder_length;
    return *rest == '\0' ? "." : *rest == '/' ? rest + 1 : NULL;
}

static int open_recorded(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    start();
    const char *name = name_inside(path);
    if (!name)
        return real(path, flags, mode);
    pthread_mutex_lock(&order);
    int fd = real(path, flags, mode);
    if (fd >= MOST_FDS)
        _exit(99);
    if (fd >= 0) {
        watched[fd] = 1;
        record('O', fd, flags & O_TRUNC ? 1 : 0, name, strlen(name));
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define MODE(flags, mode)                               \
    mode_t mode = 0;                                    \
    if (flags & O_CREAT) {                              \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode = va_arg(rest, mode_t);                    \
        va_end(rest);                                   \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    REAL(int, "open", const char *, int, ...);
    return open_recorded(real, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    REAL(int, "open64", const char *, int, ...);
    return open_recorded(real, path, flags, mode);
}

/* A copy of a descriptor is an opening of the same file. */
static int copy_recorded(int (*real)(int, int, ...), int fd, int command, void *argument) {
    if ((command != F_DUPFD && command != F_DUPFD_CLOEXEC) || !is_watched(fd))
        return real(fd, command, argument);
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    const char *name = length < 0 ? NULL : (path[length] = '\0', name_inside(path));
    pthread_mutex_lock(&order);
    int copy = real(fd, command, argument);
    if (copy >= MOST_FDS || !name)
        _exit(99);
    if (copy >= 0) {
        watched[copy] = 1;
        record('O', copy, 0, name, strlen(name));
    }
    pthread_mutex_unlock(&order);
    return copy;
}

#define ARGUMENT(command)                               \
    va_list rest;                                       \
    va_start(rest, command);                            \
    void *argument = va_arg(rest, void *);              \
    va_end(rest);

int fcntl(int fd, int command, ...) {
    ARGUMENT(command)
    REAL(int, "fcntl", int, int, ...);
    return copy_recorded(real, fd, command, argument);
}

int fcntl64(int fd, int command, ...) {
    ARGUMENT(command)
    REAL(int, "fcntl64", int, int, ...);
    return copy_recorded(real, fd, command, argument);
}

int close(int fd) {
    REAL(int, "close", int);
    if (!is_watched(fd))
        return real(fd);
    pthread_mutex_lock(&order);
    watched[fd] = 0;
    record('C', fd, 0, NULL, 0);
    int answer = real(fd);
    pthread_mutex_unlock(&order);
    return answer;
}

static ssize_t write_recorded(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *data,
                              size_t length, off_t offset) {
    if (!is_watched(fd))
        return real(fd, data, length, offset);
    pthread_mutex_lock(&order);
    ssize_t written = real(fd, data, length, offset);
    int error = errno;
    if (written > 0)
        record('W', fd, offset, data, (size_t)written);
    pthread_mutex_unlock(&order);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return write_recorded(real, fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return write_recorded(real, fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_watched(fd))
        return real(fd, data, length);
    pthread_mutex_lock(&order);
    ssize_t written = real(fd, data, length);
    int error = errno;
    if (written > 0)
        record('W', fd, lseek(fd, 0, SEEK_CUR) - written, data, (size_t)written);
    pthread_mutex_unlock(&order);
    errno = error;
    return written;
}

static int truncate_recorded(int (*real)(int, off_t), int fd, off_t size) {
    if (!is_watched(fd))
        return real(fd, size);
    pthread_mutex_lock(&order);
    int answer = real(fd, size), error = errno;
    if (!answer)
        record('T', fd, size, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return answer;
}

int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    return truncate_recorded(real, fd, size);
}

int ftruncate64(int fd, off_t size) {
    REAL(int, "ftruncate64", int, off_t);
    return truncate_recorded(real, fd, size);
}

static int flush_recorded(int (*real)(int), int fd) {
    if (!is_watched(fd))
        return real(fd);
    pthread_mutex_lock(&order);
    record('B', fd, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    int answer = real(fd), error = errno;
    if (flush_us)
        usleep(flush_us);
    pthread_mutex_lock(&order);
    record(answer ? 'F' : 'E', fd, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return answer;
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return flush_recorded(real, fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return flush_recorded(real, fd);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    const char *name = name_inside(path);
    if (!name)
        return real(path);
    pthread_mutex_lock(&order);
    int answer = real(path), error = errno;
    if (!answer)
        record('U', -1, 0, name, strlen(name));
    pthread_mutex_unlock(&order);
    errno = error;
    return answer;
}

int rename(const char *path, const char *to) {
    REAL(int, "rename", const char *, const char *);
    const char *name = name_inside(path), *new_name = name_inside(to);
    if (!name || !new_name)
        return real(path, to);
    char names[2 * PATH_MAX];
    size_t first = strlen(name) + 1, second = strlen(new_name);
    pthread_mutex_lock(&order);
    int answer = real(path, to), error = errno;
    if (!answer) {
        memcpy(names, name, first);
        memcpy(names + first, new_name, second);
        record('R', -1, 0, names, first + second);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return answer;
}
