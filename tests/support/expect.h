#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"

/// Expects a graft::Error whose message contains `text`.
#define EXPECT_ERROR(statement, text)                                       \
  try {                                                                     \
    static_cast<void>(statement);                                           \
    ADD_FAILURE() << "expected an error with '" << (text) << "', got none"; \
  } catch (const graft::Error& error) {                                     \
    EXPECT_THAT(error.what(), testing::HasSubstr(text));                    \
  }
