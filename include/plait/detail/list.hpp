#pragma once
/// An intrusive, circular, doubly linked list: no allocation, and a node leaves whatever list it is in.

namespace plait::inline v1 {
namespace detail {

struct list_node {
    list_node* previous = this;
    list_node* next = this;

    list_node() noexcept = default;
    list_node(const list_node&) = delete;
    list_node& operator=(const list_node&) = delete;
    ~list_node() { unlink(); }

    bool linked() const noexcept { return next != this; }
    void unlink() noexcept {
        previous->next = next;
        next->previous = previous;
        previous = next = this;
    }
};

/// A list of `T`, which derives from `Node`, a list_node of its own kind where T is in several lists.
template <class T, class Node = list_node>
class list {
  public:
    list() noexcept = default;
    list(const list&) = delete;
    list& operator=(const list&) = delete;
    ~list() {
        while (!empty()) head_.next->unlink();
    }

    bool empty() const noexcept { return !head_.linked(); }
    T& front() noexcept { return of(*head_.next); }

    void push_back(T& item) noexcept {
        list_node& node = static_cast<Node&>(item);
        node.previous = head_.previous;
        node.next = &head_;
        head_.previous->next = &node;
        head_.previous = &node;
    }
    T& pop_front() noexcept {
        T& item = front();
        static_cast<Node&>(item).unlink();
        return item;
    }
    /// Moves every node of `other` to the end of this list.
    void append(list& other) noexcept {
        if (other.empty()) return;
        list_node* first = other.head_.next;
        list_node* last = other.head_.previous;
        first->previous = head_.previous;
        head_.previous->next = first;
        last->next = &head_;
        head_.previous = last;
        other.head_.previous = other.head_.next = &other.head_;
    }

    /// Calls f on each node; f may unlink the node that it is given, and no other.
    template <class F>
    void for_each(F f) {
        for (list_node *node = head_.next, *after; node != &head_; node = after) {
            after = node->next;
            f(of(*node));
        }
    }

  private:
    static T& of(list_node& node) noexcept { return static_cast<T&>(static_cast<Node&>(node)); }

    list_node head_;
};

} // namespace detail
} // namespace plait::inline v1
