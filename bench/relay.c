/* Passes connections on to a port of this machine, and lets the first byte of each answer wait.

       relay LISTEN TARGET MICROSECONDS

   An answer's first byte comes that long after the last byte of its request; what follows it is passed on at once. So
   whoever measures sees a distance, not a narrow line. Linux, one thread: epoll, edge-triggered. Says "ready" when it is.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENT, SERVER, EVENTS = 512, PIECE = 1 << 18 };

/* Bytes that one end did not take yet. */
struct rest {
    char *bytes;
    size_t at, size;
};

struct talk;

/* One end of a talk; `gone` when nothing more will come from it. */
struct end {
    struct talk *talk;
    int side, socket, gone;
    struct rest rest;
};

struct talk {
    struct end ends[2];
    unsigned long turn; /* counts what the client sent: an alarm for an earlier turn is stale */
    int waiting, open;
    struct talk *next_free;
};

struct alarm {
    struct talk *talk;
    unsigned long turn;
    long long due;
};

static struct alarm *alarms; /* a ring, in the order of their times: all wait equally long */
static size_t first_alarm, alarm_count, alarm_room;
static struct talk *free_talks;
static long long wait_ns;
static int poll_fd;
static char piece[PIECE];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void set_alarm(struct talk *talk)
{
    if (alarm_count == alarm_room) {
        size_t room = alarm_room ? 2 * alarm_room : 4096;
        struct alarm *more = malloc(room * sizeof *more);
        if (!more) fail("memory");
        for (size_t i = 0; i < alarm_count; i++) more[i] = alarms[(first_alarm + i) % alarm_room];
        free(alarms);
        alarms = more, alarm_room = room, first_alarm = 0;
    }
    talk->waiting = 1;
    alarms[(first_alarm + alarm_count++) % alarm_room] = (struct alarm){talk, ++talk->turn, now() + wait_ns};
}

static void finish(struct talk *talk)
{
    if (!talk->open) return;
    for (int side = CLIENT; side <= SERVER; side++) {
        close(talk->ends[side].socket);
        free(talk->ends[side].rest.bytes);
        talk->ends[side].rest = (struct rest){0};
    }
    talk->open = 0;
    talk->turn++;
    talk->next_free = free_talks;
    free_talks = talk;
}

/* Sends what an end did not take before; whether all is gone. */
static int flush(struct talk *talk, int side)
{
    struct rest *rest = &talk->ends[side].rest;
    if (!rest->size) return 1;
    while (rest->at < rest->size) {
        ssize_t sent = send(talk->ends[side].socket, rest->bytes + rest->at, rest->size - rest->at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN) finish(talk);
            return 0;
        }
        rest->at += sent;
    }
    free(rest->bytes);
    *rest = (struct rest){0};
    return 1;
}

static int pass(struct talk *talk, int side, size_t size)
{
    ssize_t sent = send(talk->ends[side].socket, piece, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return finish(talk), 0;
    size_t gone = sent < 0 ? 0 : sent;
    if (gone == size) return 1;
    struct rest *rest = &talk->ends[side].rest;
    *rest = (struct rest){malloc(size - gone), 0, size - gone};
    if (!rest->bytes) fail("memory");
    memcpy(rest->bytes, piece + gone, rest->size);
    return 0;
}

/* Moves all that can be moved towards one end. */
static void pump(struct talk *talk, int to)
{
    if (!talk->open || !flush(talk, to)) return;
    while (!(to == CLIENT && talk->waiting)) {
        ssize_t got = recv(talk->ends[!to].socket, piece, PIECE, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            finish(talk);
            return;
        }
        if (to == SERVER) set_alarm(talk);
        if (!pass(talk, to, got)) return;
        if (got < PIECE && !talk->ends[!to].gone) return; /* what comes now is another event */
    }
}

static void watch(struct talk *talk, int side, int socket)
{
    int one = 1;
    struct end *end = &talk->ends[side];
    *end = (struct end){.talk = talk, .side = side, .socket = socket};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = end};
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, socket, &event)) fail("epoll_ctl");
}

static void begin(int listener, const struct sockaddr_in *target)
{
    int client;
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        int server = socket(AF_INET, SOCK_STREAM, 0);
        if (server < 0 || connect(server, (const struct sockaddr *)target, sizeof *target)) fail("target");
        struct talk *talk = free_talks ? free_talks : calloc(1, sizeof *talk);
        if (!talk) fail("memory");
        if (talk == free_talks) free_talks = talk->next_free;
        talk->open = 1, talk->waiting = 0;
        watch(talk, CLIENT, client), watch(talk, SERVER, server);
    }
}

static void heed(struct end *end, unsigned events)
{
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) end->gone = 1;
    if (end->rest.size) pump(end->talk, end->side);
    if (events & EPOLLIN || end->gone) pump(end->talk, !end->side);
}

static void ring(long long time)
{
    while (alarm_count && alarms[first_alarm].due <= time) {
        struct alarm alarm = alarms[first_alarm];
        first_alarm = (first_alarm + 1) % alarm_room, alarm_count--;
        if (alarm.turn == alarm.talk->turn) {
            alarm.talk->waiting = 0;
            pump(alarm.talk, CLIENT);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 4) return fprintf(stderr, "relay LISTEN TARGET MICROSECONDS\n"), 2;
    wait_ns = atoll(arguments[3]) * 1000;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, target = here;
    here.sin_port = htons(atoi(arguments[1])), target.sin_port = htons(atoi(arguments[2]));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) fail("listen");
    poll_fd = epoll_create1(0);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN})) fail("epoll_ctl");
    puts("ready"), fflush(stdout);
    struct epoll_event events[EVENTS];
    for (;;) {
        long long left = alarm_count ? alarms[first_alarm].due - now() : 1000000000LL;
        if (left < 0) left = 0;
        struct timespec timeout = {left / 1000000000LL, left % 1000000000LL};
        int found = epoll_pwait2(poll_fd, events, EVENTS, &timeout, NULL);
        if (found < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < found; i++) {
            if (!events[i].data.ptr) begin(listener, &target);
            else heed(events[i].data.ptr, events[i].events);
        }
        ring(now());
    }
}
