"""Commands for looking into a CUDA kernel on graft's emulated device: `source tools/gdb/graft.py` in gdb.

break LOCATION if $graft_thread(BLOCK, THREAD)   stops in one thread of one block of a launch. Both are the x of blockIdx and threadIdx, or a text
                                                 with the rest: $graft_thread("2", "3,5").
graft-where                                      the kernel, block and thread that run now
graft-shared                                     the arrays in the block's shared memory
graft-tile POINTER LINES COLUMNS [PITCH]         numbers as a table, a line each PITCH elements (else each COLUMNS)

All of them read what the emulated device knows of the thread that runs, and call nothing in the program.
"""

import gdb


def extent(value):
    return tuple(int(value[axis]) for axis in "xyz")


def text(at):
    return "({},{},{})".format(*at)


def thread():
    """The Thread that runs on gdb's current thread of the operating system; None between kernels."""
    current = gdb.parse_and_eval("graft::emulated::current_thread")
    return None if int(current) == 0 else current.dereference()


def running_thread():
    found = thread()
    if found is None:
        raise gdb.GdbError("no kernel of the emulated device runs here")
    return found


def wanted(value):
    """2 or "2,0,1" as coordinates; what is left out is 0."""
    if value.type.strip_typedefs().code == gdb.TYPE_CODE_INT:
        return (int(value), 0, 0)
    numbers = [int(part) for part in value.string().split(",")]
    return tuple(numbers + [0] * (3 - len(numbers)))


class ThreadFunction(gdb.Function):
    """$graft_thread(BLOCK, THREAD): whether that thread of that block runs now."""

    def __init__(self):
        super().__init__("graft_thread")

    def invoke(self, block, index):
        now = thread()
        return now is not None and extent(now["index"]) == wanted(index) and extent(now["block"]["index_"]) == wanted(block)


class Where(gdb.Command):
    """graft-where: the kernel, block and thread that run now."""

    def __init__(self):
        super().__init__("graft-where", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        now = running_thread()
        block = now["block"]
        launch = block["launch_"].dereference()
        name = launch["name"]["_M_dataplus"]["_M_p"].string()
        print(f"{name}: block {text(extent(block['index_']))} of {text(extent(launch['grid']))}, "
              f"thread {text(extent(now['index']))} of {text(extent(launch['block']))}")


class Shared(gdb.Command):
    """graft-shared: the arrays in the block's shared memory, with their first byte."""

    def __init__(self):
        super().__init__("graft-shared", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        block = running_thread()["block"]
        arrays = block["arrays_"]["_M_impl"]
        arena = int(block["arena_"]["_M_impl"]["_M_start"])
        at = arrays["_M_start"]
        while at != arrays["_M_finish"]:
            array = at.dereference()
            print(f"{arena + int(array['offset']):#x}  {int(array['bytes']):6d} bytes  {array['name'].string()}")
            at += 1


class Tile(gdb.Command):
    """graft-tile POINTER LINES COLUMNS [PITCH]: numbers as a table."""

    def __init__(self):
        super().__init__("graft-tile", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        words = gdb.string_to_argv(argument)
        if len(words) not in (3, 4):
            raise gdb.GdbError("expected graft-tile POINTER LINES COLUMNS [PITCH]")
        first, *numbers = (gdb.parse_and_eval(word) for word in words)
        lines, columns, pitch = (int(number) for number in [*numbers, numbers[1]][:3])
        for line in range(lines):
            print(" ".join(f"{float((first + line * pitch + column).dereference()):6g}" for column in range(columns)))


gdb.execute("set language c++")  # while a breakpoint's condition is tested gdb has not looked yet what the frame's language is
ThreadFunction()
Where()
Shared()
Tile()
