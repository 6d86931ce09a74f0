// Form inputs that a redraw never overwrites while somebody is editing them.

export type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

export class FormInputs {
  private readonly editing = new Set<Control>(); // those whose value Python does not have yet, or cannot take

  /** A number goes to `set` when the input is left or Enter is pressed; an invalid one is marked and stays. */
  bindNumber(
    input: HTMLInputElement,
    isValid: (value: number) => boolean,
    set: (value: number) => void,
  ): HTMLInputElement {
    input.addEventListener("input", () => this.editing.add(input));
    input.addEventListener("change", () => {
      const value = input.value.trim() === "" || input.validity.badInput ? NaN : Number(input.value);
      const valid = Number.isFinite(value) && isValid(value);
      markInvalid(input, !valid);
      if (!valid) return;
      this.editing.delete(input);
      set(value);
    });
    return input;
  }

  /** Every keystroke that leaves a valid text goes to `set`. */
  bindText(
    input: HTMLInputElement | HTMLTextAreaElement,
    set: (value: string) => void,
    isValid: (value: string) => boolean = () => true,
  ): void {
    input.addEventListener("input", () => {
      const valid = isValid(input.value);
      markInvalid(input, !valid);
      this.editing.add(input);
      if (valid) set(input.value);
    });
    input.addEventListener("blur", () => {
      if (isValid(input.value)) this.editing.delete(input);
    });
  }

  startEditing(input: Control): void {
    this.editing.add(input);
  }
  stopEditing(input: Control): void {
    this.editing.delete(input);
    markInvalid(input, false);
  }

  /** Shows a value, unless the input is being edited. */
  setValue(input: Control, value: string): void {
    if (this.editing.has(input)) return;
    markInvalid(input, false);
    if (input.value !== value) input.value = value;
  }

  /** Takes over numbers that were typed but not confirmed; returns the first invalid input, if any. */
  commit(within: HTMLElement): Control | null {
    for (const input of [...this.editing]) {
      if (input.type === "number" && within.contains(input)) input.dispatchEvent(new Event("change"));
    }
    return within.querySelector<Control>("[aria-invalid='true']");
  }

  /** Drops all edits below an element, whose inputs now stand for something else. */
  discard(within: HTMLElement): void {
    for (const input of [...this.editing]) if (within.contains(input)) this.stopEditing(input);
  }
}

function markInvalid(input: Control, invalid: boolean): void {
  if (invalid) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}
