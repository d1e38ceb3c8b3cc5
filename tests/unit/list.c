/* The two intrusive lists: the queue of events and the ring of links. */
#include "base/list.h"
#include "support/check.h"

#define COUNT 5

static struct iocp_event events[COUNT];

/* The queue's order as a number: 123 for events[1], events[2], events[3]. */
static int queue_digits(const struct iocp__queue *queue)
{
    int digits = 0;
    uint32_t count = 0;
    for (const struct iocp_event *event = queue->first; event; event = event->next) {
        digits = digits * 10 + (int)(event - events);
        count++;
        if (!event->next)
            CHECK(queue->last == event);
    }
    CHECK_EQ(queue->count, count);
    CHECK((queue->first == NULL) == (queue->last == NULL));
    return digits;
}

TEST(queue_pops_in_the_order_of_pushes)
{
    struct iocp__queue queue;
    iocp__queue_init(&queue);
    CHECK(iocp__queue_pop(&queue) == NULL);
    for (int i = 1; i < COUNT; i++)
        iocp__queue_push(&queue, &events[i]);
    CHECK_EQ(queue_digits(&queue), 1234);
    for (int i = 1; i < COUNT; i++)
        CHECK(iocp__queue_pop(&queue) == &events[i]);
    CHECK(iocp__queue_pop(&queue) == NULL);
    CHECK_EQ(queue_digits(&queue), 0);
}

TEST(queue_takes_an_event_again_after_it_was_popped)
{
    struct iocp__queue queue;
    iocp__queue_init(&queue);
    iocp__queue_push(&queue, &events[1]);
    iocp__queue_push(&queue, &events[2]);
    /* events[1] still names events[2] as its next: a push must not follow that. */
    iocp__queue_push(&queue, iocp__queue_pop(&queue));
    CHECK_EQ(queue_digits(&queue), 21);
    while (iocp__queue_pop(&queue))
        continue;
    iocp__queue_push(&queue, &events[3]);
    CHECK_EQ(queue_digits(&queue), 3);
}

/* Joins 0 to 2 events with 0 to 2 others. */
TEST(queue_join_keeps_both_orders)
{
    static const int expected[3][3] = {{0, 3, 34}, {1, 13, 134}, {12, 123, 1234}};
    for (int left = 0; left < 3; left++) {
        for (int right = 0; right < 3; right++) {
            struct iocp__queue to, from;
            iocp__queue_init(&to);
            iocp__queue_init(&from);
            for (int i = 0; i < left; i++)
                iocp__queue_push(&to, &events[1 + i]);
            for (int i = 0; i < right; i++)
                iocp__queue_push(&from, &events[3 + i]);
            iocp__queue_join(&to, &from);
            CHECK_EQ(queue_digits(&to), expected[left][right]);
            CHECK_EQ(queue_digits(&from), 0);
            iocp__queue_push(&to, &events[0]);
            CHECK_EQ(queue_digits(&to), expected[left][right] * 10);
        }
    }
}

struct item {
    int number;
    struct iocp__link link;
};

static struct item items[COUNT];

/* The ring's order as a number; looked at in both directions. */
static int ring_digits(struct iocp__link *head)
{
    int digits = 0;
    for (struct iocp__link *link = head->next; link != head; link = link->next) {
        CHECK(link->back->next == link);
        CHECK(link->next->back == link);
        digits = digits * 10 + iocp__container(link, struct item, link)->number;
    }
    return digits;
}

static void ring_fill(struct iocp__link *head)
{
    iocp__link_init(head);
    for (int i = 1; i < COUNT; i++) {
        items[i].number = i;
        iocp__link_init(&items[i].link);
        iocp__link_insert(head, &items[i].link);
    }
}

TEST(ring_holds_what_was_inserted_in_order)
{
    struct iocp__link head;
    ring_fill(&head);
    CHECK_EQ(ring_digits(&head), 1234);
    CHECK(!iocp__link_alone(&head));
    CHECK(!iocp__link_alone(&items[1].link));
}

TEST(ring_inserts_in_front_of_any_link)
{
    struct iocp__link head;
    struct item item = {.number = 9};
    ring_fill(&head);
    iocp__link_insert(&items[3].link, &item.link);
    CHECK_EQ(ring_digits(&head), 12934);
    iocp__link_remove(&item.link);
    iocp__link_insert(head.next, &item.link);
    CHECK_EQ(ring_digits(&head), 91234);
}

TEST(ring_removes_first_middle_and_last)
{
    struct iocp__link head;
    ring_fill(&head);
    iocp__link_remove(&items[2].link);
    CHECK_EQ(ring_digits(&head), 134);
    CHECK(iocp__link_alone(&items[2].link));
    iocp__link_remove(&items[4].link);
    CHECK_EQ(ring_digits(&head), 13);
    iocp__link_remove(&items[1].link);
    CHECK_EQ(ring_digits(&head), 3);
    iocp__link_remove(&items[3].link);
    CHECK(iocp__link_alone(&head));
}

TEST(ring_remove_twice_is_harmless)
{
    struct iocp__link head;
    ring_fill(&head);
    iocp__link_remove(&items[2].link);
    iocp__link_remove(&items[2].link);
    CHECK_EQ(ring_digits(&head), 134);
}
