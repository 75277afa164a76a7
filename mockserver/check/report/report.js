for (const article of document.querySelectorAll('article')) {
  const button = article.querySelector('button')
  const source = article.querySelector('.markdown pre')
  button.hidden = false
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(source.textContent)
      button.textContent = 'Copied'
    } catch { // a page that was opened from a file may not write there: it is selected for Ctrl-C
      source.parentElement.open = true
      getSelection().selectAllChildren(source)
      button.textContent = 'Selected: press Ctrl-C'
    }
  })
}
