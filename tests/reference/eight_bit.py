"""Products with a matrix of 8 bits an element, in plain loops; rows come as parts."""

import math

import numpy as np


def in_bytes(numbers):
    """Whole numbers from -127 to 127, and what one of them stands for; halves go to the even neighbour."""
    largest = max((abs(float(number)) for number in numbers), default=0.0)
    scale = largest / 127
    return [round(float(number) / scale) if scale else 0 for number in numbers], scale


def product(parts, matrix):
    """[n, m] of parts [n, ..] and a matrix [m, k], in segments that end where a part does, or after 512 places."""
    count, columns = len(parts[0]), len(matrix)
    result, start = np.zeros((count, columns)), 0
    for part in parts:
        for first in range(0, part.shape[1], 512):
            rows = [in_bytes(row[first : first + 512]) for row in part]
            weights = [in_bytes(row[start + first : start + first + len(rows[0][0])]) for row in matrix]
            for i, (row, of_row) in enumerate(rows):
                for j, (column, of_column) in enumerate(weights):
                    result[i, j] += of_row * of_column * sum(p * q for p, q in zip(row, column, strict=True))
        start += part.shape[1]
    return result


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-x))


def lstm(gates, cell):
    """h', c' [n, H] of pre-activations [n, 4 H] in the order i, f, o, g, and c [n, H]."""
    count, size = cell.shape
    hidden, new = np.zeros((count, size)), np.zeros((count, size))
    for n in range(count):
        for j in range(size):
            i, f, o, g = (gates[n, k * size + j] for k in range(4))
            new[n, j] = sigmoid(f) * cell[n, j] + sigmoid(i) * math.tanh(g)
            hidden[n, j] = sigmoid(o) * math.tanh(new[n, j])
    return hidden, new


def gru(blocks, cell):
    """h' [n, H], twice, of what is for r, z, n from inputs, and u from the state, [n, 4 H], and h [n, H]."""
    hidden = np.zeros(cell.shape)
    size = cell.shape[1]
    for n in range(len(cell)):
        for j in range(size):
            r, z, candidate, recurrent = (blocks[n, k * size + j] for k in range(4))
            proposed = math.tanh(candidate + sigmoid(r) * recurrent)
            hidden[n, j] = (1 - sigmoid(z)) * proposed + sigmoid(z) * cell[n, j]
    return hidden, hidden


def best(logits, count, never):
    """The count largest log-probabilities of each row and their places, the first of equal ones; none in never."""
    values, places = [], []
    for row in logits:
        top = max(row)
        log_total = top + math.log(sum(math.exp(z - top) for z in row))
        order = sorted((place for place in range(len(row)) if place not in never), key=lambda place: -row[place])
        places.append(order[:count])
        values.append([row[place] - log_total for place in order[:count]])
    return np.array(values), np.array(places)
