// SPDX-License-Identifier: GPL-2.0
/* Reads and checks result files; see result_read.h. */
#include <string.h>

#include "result_read.h"

json_t *result_read(const char *path)
{
	json_error_t error;
	json_t *result = json_load_file(path, 0, &error);
	const char *tool;

	if (!result) {
		bench_fail(STATUS_USAGE, "%s: line %d: %s", path, error.line, error.text);
		return NULL;
	}
	tool = json_string_value(json_object_get(result, "tool"));
	if (tool && !strcmp(tool, "hmm-bench") &&
	    json_integer_value(json_object_get(result, "schema")) == SCHEMA &&
	    json_is_array(json_object_get(result, "figures")))
		return result;
	bench_fail(STATUS_USAGE, "%s is not a result of this hmm-bench (schema %d)", path, SCHEMA);
	json_decref(result);
	return NULL;
}

static json_t *find(json_t *array, const char *name)
{
	json_t *j;
	size_t i;

	json_array_foreach(array, i, j) {
		const char *found = json_string_value(json_object_get(j, "name"));

		if (found && name && !strcmp(found, name))
			return j;
	}
	return NULL;
}

json_t *result_figure(json_t *result, const char *name)
{
	return find(json_object_get(result, "figures"), name);
}

json_t *figure_variant(json_t *figure, const char *name)
{
	return find(json_object_get(figure, "variants"), name);
}

struct estimate estimate_read(json_t *parent, const char *key)
{
	json_t *j = json_object_get(parent, key);

	return (struct estimate) {
		.value = json_number_value(json_object_get(j, "value")),
		.low = json_number_value(json_object_get(j, "low")),
		.high = json_number_value(json_object_get(j, "high")),
	};
}
