// Arrays that Python sends as bytes. A DataView may start anywhere in a larger buffer, so values are copied out.

export type Binary = DataView | ArrayBuffer | Uint8Array;

function bytes(value: Binary | null | undefined): ArrayBuffer {
  if (!value) return new ArrayBuffer(0);
  if (value instanceof ArrayBuffer) return value;
  return value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) as ArrayBuffer;
}

export const toFloat32 = (value: Binary | null | undefined): Float32Array => new Float32Array(bytes(value));
export const toFloat64 = (value: Binary | null | undefined): Float64Array => new Float64Array(bytes(value));
export const toInt32 = (value: Binary | null | undefined): Int32Array => new Int32Array(bytes(value));

/** Strings sent as one UTF-8 block, separated by U+001F (which Python has removed from the strings themselves). */
export function toStrings(value: Binary | null | undefined): string[] {
  const block = bytes(value);
  return block.byteLength === 0 ? [] : new TextDecoder().decode(block).split("\u001f");
}

export interface FeatureActivation {
  feature: number;
  value: number;
}

/** The sparse activations of a text in compressed rows: token i owns entries start[i] to start[i + 1]. */
export class SparseActivations {
  constructor(
    readonly start: Int32Array,
    readonly feature: Int32Array,
    readonly value: Float32Array,
  ) {}

  static from(acts: { start?: Binary; feature?: Binary; value?: Binary } | null | undefined): SparseActivations {
    return new SparseActivations(toInt32(acts?.start), toInt32(acts?.feature), toFloat32(acts?.value));
  }

  get length(): number {
    return Math.max(0, this.start.length - 1);
  }

  /** The k strongest features of one token, strongest first; equal values by feature number. */
  topFeatures(token: number, k: number): FeatureActivation[] {
    const found: FeatureActivation[] = [];
    for (let j = this.start[token] ?? 0; j < (this.start[token + 1] ?? 0); j++) {
      found.push({ feature: this.feature[j] ?? 0, value: this.value[j] ?? 0 });
    }
    found.sort((a, b) => b.value - a.value || a.feature - b.feature);
    return found.slice(0, k);
  }

  /** The number of features that fire on a token. */
  nActive(token: number): number {
    return (this.start[token + 1] ?? 0) - (this.start[token] ?? 0);
  }

  /** The activation of `feature` on one token, or with null the strongest of any feature; 0 where it is silent. */
  activationAt(token: number, feature: number | null): number {
    let found = 0;
    for (let j = this.start[token] ?? 0; j < (this.start[token + 1] ?? 0); j++) {
      const value = this.value[j] ?? 0;
      if (feature === null ? value > found : this.feature[j] === feature) found = value;
    }
    return found;
  }

  /** One value per token: the activation of `feature`, or with null the strongest activation of any feature. */
  activationsOf(feature: number | null): Float32Array {
    const out = new Float32Array(this.length);
    for (let token = 0; token < out.length; token++) {
      for (let j = this.start[token] ?? 0; j < (this.start[token + 1] ?? 0); j++) {
        const value = this.value[j] ?? 0;
        if (feature === null ? value > (out[token] ?? 0) : this.feature[j] === feature) out[token] = value;
      }
    }
    return out;
  }
}
