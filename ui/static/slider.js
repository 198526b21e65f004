// Two pictures on top of each other, and a line between them that can be moved.
// value: {left, right, captions: [text, text]}
(() => {
  const { make } = window.medley;

  window.medley.parts.slider = (element, props, trigger, watch) => {
    const draw = () => {
      const now = props.value || {};
      element.hidden = !now.left || !now.right;
      if (element.hidden) return element.replaceChildren();
      const over = make("img", { src: now.left, alt: now.captions[0], class: "m-pixel m-over" });
      const range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Where the left picture ends" });
      const cut = () => (over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`);
      range.addEventListener("input", cut);
      cut();
      const pile = make("div", { class: "m-pile" }, make("img", { src: now.right, alt: now.captions[1], class: "m-pixel" }), over);
      const words = make("div", { class: "m-ends" }, make("span", {}, now.captions[0]), make("span", {}, now.captions[1]));
      element.replaceChildren(pile, range, words);
    };
    watch("value", draw);
    draw();
  };
})();
