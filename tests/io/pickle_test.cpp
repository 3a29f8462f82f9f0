#include "io/pickle.h"

#include "support/expect.h"

namespace graft::io {
namespace {

Pickle parse(std::string_view text) { return Pickle("[test]", std::as_bytes(std::span(text))); }
std::string binary(std::initializer_list<int> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(Pickle, Integers) {
  struct Case {
    std::string pickle;
    std::int64_t value;
  };
  for (const Case& c : std::vector<Case>{
           {binary({'K', 0xff, '.'}), 255},
           {binary({'M', 0xff, 0xff, '.'}), 65535},
           {binary({'J', 0xfe, 0xff, 0xff, 0xff, '.'}), -2},
           {binary({0x8a, 0, '.'}), 0},
           {binary({0x8a, 1, 0xff, '.'}), -1},
           {binary({0x8a, 2, 0xff, 0x00, '.'}), 255},
           {binary({0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0x80, '.'}), INT64_MIN},
       }) {
    EXPECT_EQ(parse(c.pickle).value().integer, c.value);
  }
}

TEST(Pickle, SizeEndsAfterStop) { EXPECT_EQ(parse("N.and more").size(), 2u); }

TEST(Pickle, RefusesEverythingOutsideTheList) {
  for (const auto& [pickle, message] : std::vector<std::pair<std::string, std::string>>{
           {"cos\nsystem\n(S'id'\ntR.", "names 'os.system' before byte 11"},
           {"c__builtin__\neval\n.", "names '__builtin__.eval'"},
           {"ctorch\nload\n.", "names 'torch.load'"},
           {"\x8c\x02os\x8c\x06system\x93.", "names 'os.system'"},
           {"S'id'\n.", "uses opcode 0x53 at byte 0"},
           {"(i__main__\nX\n.", "uses opcode 0x69"},
           {")\x81.", "uses opcode 0x81"},
           {"ctorch\nFloatStorage\n)R.", "calls 'torch.FloatStorage'"},
           {"ccollections\nOrderedDict\n]R.", "calls what is no function"},
           {"N)R.", "calls what is no function"},
           {"", "is truncated: 1 bytes at byte 0"},
           {"K", "is truncated"},
           {"X\xff\xff\xff\xff.", "4294967295 bytes at byte 5 lie beyond its end"},
           {"ctorch", "truncated in a name"},
           {".", "takes a value where there is none"},
           {"t.", "needs a mark"},
           {"(.", "takes a value where there is none"},
           {"N\x86.", "takes more values than there are"},
           {"a.", "appends to what is no list"},
           {"Na.", "appends to what is no list"},
           {"NNs.", "sets items of what is no dict"},
           {"}(Nu.", "sets items of what is no dict"},
           {"s.", "sets items of what is no dict"},
           {"NNb.", "sets the state of what is no dict"},
           {"hA.", "recalls value 65"},
           {"qA.", "takes a value where there is none"},
           {"NQ.", "expected a storage"},
       }) {
    EXPECT_ERROR(parse(pickle), message);
  }
}

TEST(Pickle, RingsAndDeepNestingAreOnlyValues) {
  EXPECT_EQ(parse(binary({']', 'q', 0, 'h', 0, 'a', '.'})).value().items.size(), 1u);  // a list that holds itself
  std::string deep = ")";
  for (int i = 0; i < 1'000'000; ++i) deep += "\x85";
  EXPECT_EQ(parse(deep + ".").value().items.size(), 1u);
}

}  // namespace
}  // namespace graft::io
