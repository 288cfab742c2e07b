# SPDX-License-Identifier: MIT
# Flags that every target shares. No -march=native, no -ffast-math: the same source gives the same bytes everywhere.
add_library(fathom_flags INTERFACE)
target_compile_options(fathom_flags INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                       -Wpointer-arith -Wvla $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> -ffp-contract=off
                       -fno-math-errno -fvisibility=hidden)
target_compile_definitions(fathom_flags INTERFACE _GNU_SOURCE FM_VERSION="${PROJECT_VERSION}")
if(FATHOM_WERROR)
  target_compile_options(fathom_flags INTERFACE -Werror)
endif()
if(FATHOM_SANITIZE)
  target_compile_options(fathom_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                         -fno-omit-frame-pointer)
  target_link_options(fathom_flags INTERFACE -fsanitize=address,undefined)
endif()
if(FATHOM_TSAN)
  target_compile_options(fathom_flags INTERFACE -fsanitize=thread)
  target_link_options(fathom_flags INTERFACE -fsanitize=thread)
endif()
if(FATHOM_FUZZ)
  target_compile_options(fathom_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined)
  target_link_options(fathom_flags INTERFACE -fsanitize=address,undefined)
endif()
if(FATHOM_COVERAGE)
  target_compile_options(fathom_flags INTERFACE --coverage)
  target_link_options(fathom_flags INTERFACE --coverage)
endif()
