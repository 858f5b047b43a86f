// SPDX-License-Identifier: GPL-2.0
/* "plot": pictures of a result by gnuplot, one SVG file for each figure. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "result_read.h"

/* Print a quoted string.  gnuplot would run a command between backquotes. */
static void print_quoted(FILE *to, const char *text)
{
	fputc('"', to);
	for (; text && *text; text++) {
		if (strchr("\"\\`", *text))
			fputc('\\', to);
		/* A new line would begin a gnuplot command. */
		fputc((unsigned char)*text < ' ' ? ' ' : *text, to);
	}
	fputc('"', to);
}

/* A bar for each variant: the median and its interval. */
static void plot_variants(FILE *to, json_t *figure)
{
	json_t *variants = json_object_get(figure, "variants"), *v;
	size_t i;

	fputs("set boxwidth 0.6\nset style fill solid 0.4\nset yrange [0:*]\n"
	      "set xrange [-0.6:*]\nset offsets 0, 0.6, 0, 0\nunset logscale\nunset key\n"
	      "$data << END\n", to);
	json_array_foreach(variants, i, v) {
		struct estimate e = estimate_read(v, "median");

		fprintf(to, "%zu %.9g %.9g %.9g ", i, e.value, e.low, e.high);
		print_quoted(to, json_string_value(json_object_get(v, "name")));
		fputc('\n', to);
	}
	fputs("END\nplot $data using 1:2:xtic(5) with boxes linecolor rgb \"#4477aa\", "
	      "$data using 1:2:3:4 with yerrorbars linecolor rgb \"#000000\" pointtype 0\n", to);
}

/* Cost against size, and a line with the cost per item of the largest size. */
static void plot_points(FILE *to, json_t *figure)
{
	json_t *points = json_object_get(figure, "points"), *p;
	double most = 0, each = 0;
	size_t i;

	fputs("set logscale xy\nset autoscale\nunset offsets\nset key left top\n$data << END\n",
	      to);
	json_array_foreach(points, i, p) {
		double size = json_number_value(json_object_get(p, "size"));
		double cost = json_number_value(json_object_get(p, "cost"));

		if (size > most) {
			most = size;
			each = cost / size;
		}
		fprintf(to, "%.9g %.9g\n", size, cost);
	}
	fprintf(to, "END\nplot $data with linespoints linecolor rgb \"#4477aa\" title \"measured\", "
		"%.9g * x title \"the same for each\" linecolor rgb \"#bbbbbb\"\n", each);
}

static bool is_file_name(const char *name)
{
	for (const char *c = name; c && *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return false;
	return name && *name && *name != '.';
}

static void plot_figure(FILE *to, const char *folder, json_t *figure)
{
	const char *name = json_string_value(json_object_get(figure, "name"));
	bool points = json_object_get(figure, "points");

	if (!is_file_name(name) || (points && !json_array_size(json_object_get(figure, "points"))))
		return;
	fprintf(to, "reset\nset terminal svg noenhanced size 480,320 font \"sans,11\"\n"
		"set output '%s/%s.svg'\nset grid ytics\nset title ", folder, name);
	print_quoted(to, name);
	fputs("\nset ylabel ", to);
	print_quoted(to, json_string_value(json_object_get(figure, "unit")));
	fputc('\n', to);
	if (points)
		plot_points(to, figure);
	else
		plot_variants(to, figure);
}

/* plot RESULT FOLDER */
enum status bench_plot(int argc, char **argv)
{
	json_t *result, *figure;
	FILE *to;
	size_t i;

	if (argc != 3)
		return bench_fail(STATUS_USAGE, "plot takes a result file and a folder");
	if (strpbrk(argv[2], "'\n"))
		return bench_fail(STATUS_USAGE, "the name of the folder has a quote or a line break");
	result = result_read(argv[1]);
	if (!result)
		return bench_failed();
	if (mkdir(argv[2], 0777) && errno != EEXIST) {
		json_decref(result);
		return bench_fail(STATUS_USAGE, "%s: %s", argv[2], strerror(errno));
	}
	if (system("command -v gnuplot > /dev/null")) {
		json_decref(result);
		return bench_fail(STATUS_MISSING, "there is no gnuplot");
	}
	to = popen("gnuplot", "w");
	if (to)
		json_array_foreach(json_object_get(result, "figures"), i, figure)
			plot_figure(to, argv[2], figure);
	json_decref(result);
	if (!to || pclose(to))
		return bench_fail(STATUS_MISSING, "gnuplot failed");
	return STATUS_OK;
}
