// Boxes for text and numbers that a redraw never overwrites while somebody types in them.

export type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

export class Boxes {
  private readonly typing = new Set<Control>(); // words that Python does not have yet, or cannot take

  /** A number goes to `set` when the box is left or Enter is pressed; what is no good is marked and stays. */
  number(box: HTMLInputElement, good: (value: number) => boolean, set: (value: number) => void): HTMLInputElement {
    box.addEventListener("input", () => this.typing.add(box));
    box.addEventListener("change", () => {
      const value = box.value.trim() === "" || box.validity.badInput ? NaN : Number(box.value);
      const fine = Number.isFinite(value) && good(value);
      mark(box, !fine);
      if (!fine) return;
      this.typing.delete(box);
      set(value);
    });
    return box;
  }

  /** Every keystroke goes to `set`, unless it leaves something that is no good. */
  text(
    box: HTMLInputElement | HTMLTextAreaElement,
    set: (value: string) => void,
    good: (value: string) => boolean = () => true,
  ): void {
    box.addEventListener("input", () => {
      const fine = good(box.value);
      mark(box, !fine);
      this.typing.add(box);
      if (fine) set(box.value);
    });
    box.addEventListener("blur", () => {
      if (good(box.value)) this.typing.delete(box);
    });
  }

  hold(box: Control): void {
    this.typing.add(box);
  }
  release(box: Control): void {
    this.typing.delete(box);
    mark(box, false);
  }

  fill(box: Control, value: string): void {
    if (this.typing.has(box)) return;
    mark(box, false);
    if (box.value !== value) box.value = value;
  }

  /** Takes over what was typed but not confirmed; returns the first box that holds something that is no good. */
  settle(within: HTMLElement): Control | null {
    for (const box of [...this.typing])
      if (box.type === "number" && within.contains(box)) box.dispatchEvent(new Event("change"));
    return within.querySelector<Control>("[aria-invalid='true']");
  }

  /** Forgets what was typed below an element: its boxes now stand for something else. */
  forget(within: HTMLElement): void {
    for (const box of [...this.typing]) if (within.contains(box)) this.release(box);
  }
}

function mark(box: Control, bad: boolean): void {
  if (bad) box.setAttribute("aria-invalid", "true");
  else box.removeAttribute("aria-invalid");
}
