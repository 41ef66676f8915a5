/* SPDX-License-Identifier: MIT */
/* The list of tensors against the network as it is written down in network.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "tests/unit/fixture-network.h"

/* The list of a small network, by hand. */
static void test_names_and_shapes(void **state) {
        static const struct {
                const char *name;
                uint32_t n_dims, dims[4];
        } want[] = {
                { "conv_input.weight", 4, { 8, 3, 3, 3 } },
                { "conv_input.bias", 1, { 8 } },
                { "bn_input.weight", 1, { 8 } },
                { "bn_input.bias", 1, { 8 } },
                { "bn_input.running_mean", 1, { 8 } },
                { "bn_input.running_var", 1, { 8 } },
                { "res_block_0.conv1.weight", 4, { 8, 8, 3, 3 } },
                { "res_block_0.conv1.bias", 1, { 8 } },
                { "res_block_0.bn1.weight", 1, { 8 } },
                { "res_block_0.bn1.bias", 1, { 8 } },
                { "res_block_0.bn1.running_mean", 1, { 8 } },
                { "res_block_0.bn1.running_var", 1, { 8 } },
                { "res_block_0.conv2.weight", 4, { 8, 8, 3, 3 } },
                { "res_block_0.conv2.bias", 1, { 8 } },
                { "res_block_0.bn2.weight", 1, { 8 } },
                { "res_block_0.bn2.bias", 1, { 8 } },
                { "res_block_0.bn2.running_mean", 1, { 8 } },
                { "res_block_0.bn2.running_var", 1, { 8 } },
                { "policy_conv.weight", 4, { 2, 8, 1, 1 } },
                { "policy_conv.bias", 1, { 2 } },
                { "policy_bn.weight", 1, { 2 } },
                { "policy_bn.bias", 1, { 2 } },
                { "policy_bn.running_mean", 1, { 2 } },
                { "policy_bn.running_var", 1, { 2 } },
                { "policy_fc.weight", 2, { 7, 84 } },
                { "policy_fc.bias", 1, { 7 } },
                { "value_conv.weight", 4, { 1, 8, 1, 1 } },
                { "value_conv.bias", 1, { 1 } },
                { "value_bn.weight", 1, { 1 } },
                { "value_bn.bias", 1, { 1 } },
                { "value_bn.running_mean", 1, { 1 } },
                { "value_bn.running_var", 1, { 1 } },
                { "value_fc1.weight", 2, { 256, 42 } },
                { "value_fc1.bias", 1, { 256 } },
                { "value_fc2.weight", 2, { 1, 256 } },
                { "value_fc2.bias", 1, { 1 } },
        };
        struct network n = fixture_network("connect4", 6, 7, 7, 8, 1);
        struct network_tensor list[NETWORK_MAX_TENSORS];

        (void) state;
        assert_int_equal(network_tensors(&n, list), N_ELEMENTS(want));
        for (size_t i = 0; i < N_ELEMENTS(want); i++) {
                uint64_t n_elements = 1;

                assert_string_equal(list[i].name, want[i].name);
                assert_int_equal(list[i].n_dims, want[i].n_dims);
                for (uint32_t k = 0; k < want[i].n_dims; k++) {
                        assert_int_equal(list[i].dims[k], want[i].dims[k]);
                        n_elements *= want[i].dims[k];
                }
                assert_int_equal(list[i].n_elements, n_elements);
        }
}

static void test_largest_fits(void **state) {
        struct network n = fixture_network("gomoku", 20, 20, 400, 512, NETWORK_MAX_BLOCKS);
        struct network_tensor list[NETWORK_MAX_TENSORS];

        (void) state;
        assert_int_equal(network_tensors(&n, list), NETWORK_MAX_TENSORS);
        for (size_t i = 0; i < NETWORK_MAX_TENSORS; i++)
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(list[i].name, list[k].name);
}

static void test_init_and_equal(void **state) {
        const struct game g = {
                .rules = "gomoku:15x15", .rows = 15, .cols = 15, .cells = 225, .moves = 225, .planes = 3
        };
        struct network a, b;

        (void) state;
        network_init(&a, &g, 64, 5);
        assert_string_equal(a.rules, "gomoku:15x15");
        assert_int_equal(a.planes, 3);
        assert_int_equal(a.rows, 15);
        assert_int_equal(a.moves, 225);
        network_init(&b, &g, 64, 5);
        assert_true(network_equal(&a, &b));
        b.blocks = 6;
        assert_false(network_equal(&a, &b));
        b = a;
        b.rules[0] = 'x';
        assert_false(network_equal(&a, &b));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_and_shapes),
                cmocka_unit_test(test_largest_fits),
                cmocka_unit_test(test_init_and_equal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
